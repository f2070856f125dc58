"""The part of a workbench that shares its answers with the class, if the student asks for it."""

from pathlib import Path
from typing import Any

from qwen3lab.errors import StorageError
from qwen3lab.translation import tr
from qwen3lab.widgets.classroom.answers import MAX_TEXT, Answer, check_name, write_answer
from qwen3lab.widgets.workbench.state import WorkbenchState

MAX_NAME_OF_MODEL = 200


class Sharing:
    """Writes each answer of a workbench into a folder, after `share`."""

    state: WorkbenchState
    _shared: tuple[Path, str] | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        raise NotImplementedError

    def share(self, folder: str | Path | None, name: str = "") -> str:
        """Write the latest answer and each further one into a folder that the class shares.

        The file has the name, the question, the answer, the mode and the number of thinking
        tokens, and only the latest answer. The teacher reads the folder with
        `widgets.ClassBoard`.

        Args:
            folder: that the class shares; None ends the sharing, and leaves the file.
            name: to show to the teacher; each student takes another.

        Returns:
            What is shared now, in one sentence.

        Raises:
            StorageError: the folder does not exist or cannot be written to, or the name is empty.
        """
        if folder is None:
            self._shared = None
            return tr("Nothing is shared from now on.")
        if not Path(folder).is_dir():
            raise StorageError(tr("{folder} is not a folder: ask your teacher", folder=folder))
        if self._shared is None:
            self.state.observe(self._write_shared, ["chat"])
        self._shared = (Path(folder), check_name(name))
        self._write_shared()
        return tr(
            "The latest answer of this workbench is written into {folder} as “{name}”, and so is "
            "each further one. bench.share(None) ends it.",
            folder=folder,
            name=self._shared[1],
        )

    def _write_shared(self, _: Any = None) -> None:
        chat, shared = self.state.chat, self._shared
        if shared is None or chat is None:
            return
        folder, name = shared
        found = Answer(
            name=name,
            question=self.state.asked[:MAX_TEXT],
            answer=chat.answer.strip()[:MAX_TEXT],
            thinking=self.state.asked_thinking,
            thinking_tokens=chat.thinking_tokens,
            model=self.name[:MAX_NAME_OF_MODEL],
            stop=chat.stop,
        )
        try:
            write_answer(folder, found)
        except StorageError as error:
            self.state.error = str(error)
