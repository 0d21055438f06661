"""Text to token ids and back, by a folder's tokenizer.json."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from cultev.backend.onnx_folder import OnnxFolder
from cultev.backend.onward import tokens_onward
from cultev.errors import MissingExtra, ModelDamaged

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "\u2581"

_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|endofturn|>", "<|return|>")
"""Special tokens with which chat formats end a turn, whatever the config says (llama.cpp knows the same)."""


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
        layout = json.loads(folder.tokenizer.read_text(encoding="utf-8"))
        kinds = _kinds(layout)
        self._byte_level = "ByteLevel" in kinds
        self._metaspace = "Metaspace" in kinds or _SPACE in json.dumps(
            [layout.get("normalizer"), layout.get("decoder")], ensure_ascii=False
        )
        added = self._tokenizer.get_added_tokens_decoder()
        self._added = set(added)
        self._special = {i for i, t in added.items() if t.special}
        self._pieces: dict[int, bytes] = {}
        self.n_vocab: int = self._tokenizer.get_vocab_size()
        self.ends = self._find_ends(folder)
        plain = self._plain("a")
        self._prepends_space = bool(plain) and self.piece(plain[0]).startswith(b" ")

    def encode(self, text: str) -> list[int]:
        """Ids of a rendered prompt, with exactly one BOS before them where the model wants one."""
        ids = self._plain(text)
        if self.bos is None:
            return ids
        while ids and ids[0] == self.bos:
            del ids[0]
        return [self.bos, *ids]

    def encode_whole(self, text: str) -> list[int]:
        """Ids of a whole text with all that the tokenizer itself puts around it, such as [CLS] and [SEP]."""
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def encode_onwards(self, text: str) -> list[int]:
        """Ids of a text that goes on from another: no BOS, and no space that a tokenizer puts before a text."""
        onward = tokens_onward(self._plain, text) if self._prepends_space else None
        return self._plain(text) if onward is None else onward

    def _plain(self, text: str) -> list[int]:
        """Ids of a text with nothing put around it."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def piece(self, token: int) -> bytes:
        """The bytes that a token adds to a text; none for special ones."""
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self._piece(token)
        return known

    def _piece(self, token: int) -> bytes:
        piece: str | None = self._tokenizer.id_to_token(token)
        if piece is None or token in self._special:
            return b""
        if token in self._added:
            return piece.encode()
        if match := _BYTE.fullmatch(piece):
            return bytes([int(match[1], 16)])
        if self._byte_level:
            if all(c in _BYTE_OF for c in piece):
                return bytes(_BYTE_OF[c] for c in piece)
            return piece.encode()
        text = piece.replace(_SPACE, " ")
        if _SPACE in piece or self._metaspace:
            return text.encode()
        # Other kinds (WordPiece and such): what the decoder makes of it between two others.
        decoded: str = self._tokenizer.decode([token], skip_special_tokens=False)
        return decoded.encode()

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of generated ids: special tokens give none, broken UTF-8 gives U+FFFD."""
        return b"".join(map(self.piece, tokens)).decode(errors="replace")

    def is_end(self, token: int) -> bool:
        """Whether a token ends the model's turn."""
        return token in self.ends

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

    def _find_ends(self, folder: OnnxFolder) -> frozenset[int]:
        """Tokens that end a turn: those that the configs name, and those that chat models are known to end with."""
        ends = set(folder.ends)
        for text in (folder.eos, *_TURN_ENDS):
            token = self._tokenizer.token_to_id(text) if text else None
            if token is not None and (text == folder.eos or token in self._special):
                ends.add(token)
        return frozenset(ends)

    def _find_bos(self, folder: OnnxFolder) -> int | None:
        """The id of the BOS that belongs before every text, None where none does."""
        plain = self._plain("a")
        full = self._tokenizer.encode("a", add_special_tokens=True).ids
        added = full[0] if full[:1] != plain[:1] and full else None
        bos: int | None = self._tokenizer.token_to_id(folder.bos) if folder.bos else None
        if bos is None:
            value = folder.config.get("bos_token_id")
            bos = value if isinstance(value, int) else None
        if folder.add_bos is None:
            return added if bos is None or added == bos else None
        return bos if folder.add_bos else None


def _kinds(layout: object) -> set[str]:
    """Every 'type' that a tokenizer.json names in its steps."""
    found: set[str] = set()
    if isinstance(layout, dict):
        for key, value in layout.items():
            if key == "type" and isinstance(value, str):
                found.add(value)
            elif key not in ("model", "added_tokens"):
                found |= _kinds(value)
    elif isinstance(layout, list):
        for value in layout:
            found |= _kinds(value)
    return found


def _byte_alphabet() -> dict[str, int]:
    """Byte-level BPE's letters for bytes: printable Latin-1 as itself, the rest from U+0100 on."""
    letters = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in letters]
    return {chr(b): b for b in letters} | {chr(256 + i): b for i, b in enumerate(others)}


_BYTE_OF = _byte_alphabet()
