"""Text to token ids and back, by a folder's tokenizer.json."""

from __future__ import annotations

import re

from cultev.backend.onnx_folder import OnnxFolder
from cultev.errors import MissingExtra, ModelDamaged

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "\u2581"


class OnnxTokens:
    """A folder's tokenizer.

    Raises:
        MissingExtra: the tokenizers package is not installed.
        ModelDamaged: tokenizer.json can't be read.
    """

    def __init__(self, folder: OnnxFolder) -> None:
        try:
            import tokenizers
        except ImportError as error:
            raise MissingExtra("onnx", "An ONNX model") from error
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(folder.tokenizer))
        except Exception as error:  # the package raises bare Exception
            raise ModelDamaged(
                f"{folder.tokenizer} can't be read: {error}.",
                "Fetch the file again, or update: pip install -U tokenizers",
            ) from error
        # Some files carry the length that training cut texts to.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.bos = self._find_bos(folder)

    def encode(self, text: str) -> list[int]:
        """Ids of a rendered prompt, with exactly one BOS before them where the model wants one."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        if self.bos is None:
            return ids
        while ids and ids[0] == self.bos:
            del ids[0]
        return [self.bos, *ids]

    def text(self, token: int) -> str:
        """How a token reads; bytes that are no text of their own are shown as \\xNN."""
        piece: str | None = self._tokenizer.id_to_token(token)
        if piece is None:
            return ""
        if match := _BYTE.fullmatch(piece):
            value = int(match[1], 16)
            return chr(value) if value < 128 else f"\\x{value:02x}"
        text: str = self._tokenizer.decode([token], skip_special_tokens=False)
        if "\ufffd" in text:
            raw = bytes(_BYTE_OF.get(c, 63) for c in piece)
            return raw.decode("utf-8", "backslashreplace")
        # A token's leading space is dropped at a text's start; people should see it.
        return piece.replace(_SPACE, " ") if _SPACE in piece else text

    def _find_bos(self, folder: OnnxFolder) -> int | None:
        """The id of the BOS that belongs before every text, None where none does."""
        plain = self._tokenizer.encode("a", add_special_tokens=False).ids
        full = self._tokenizer.encode("a", add_special_tokens=True).ids
        added = full[0] if full[:1] != plain[:1] and full else None
        bos: int | None = self._tokenizer.token_to_id(folder.bos) if folder.bos else None
        if bos is None:
            value = folder.config.get("bos_token_id")
            bos = value if isinstance(value, int) else None
        if folder.add_bos is None:
            return added if bos is None or added == bos else None
        return bos if folder.add_bos else None


def _byte_alphabet() -> dict[str, int]:
    """Byte-level BPE's letters for bytes: printable Latin-1 as itself, the rest from U+0100 on."""
    letters = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in letters]
    return {chr(b): b for b in letters} | {chr(256 + i): b for i, b in enumerate(others)}


_BYTE_OF = _byte_alphabet()
