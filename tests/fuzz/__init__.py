"""Fuzz suites: mutated files, odd chats and templates, against the promise of each reader.

Every case ends in one of two ways: the result that an independent reference gives (the intact
value, transformers on the same folder, a rendering by jinja2), or a refusal of one sentence.
Anything else is a finding: another exception, a different value, a crash, a file left behind.
"""
