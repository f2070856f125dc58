"""Goes through the whole course in a browser, as a student does, and writes down what is wrong.

    python -m tests.notebooks.course_run --language zh --out FOLDER

It opens each notebook of a working copy in JupyterLab, runs all cells, tries the exercises with a
wrong answer, three hints and a right answer, and opens the page of the session with its quiz. The
folder gets a report in JSON and a page with all screenshots, `index.html`. After an interrupt the
same command goes on with the notebooks that are missing.
"""
