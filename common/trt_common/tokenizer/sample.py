"""A text that different tokenizers turn into different ids."""

from __future__ import annotations

# The wording of a prompt, and what tokenizers treat differently: runs of blanks and of line breaks, digits,
# signs, capitals, contractions, other scripts, characters of several bytes.
SAMPLE_TEXT = (
    "The following are multiple choice questions (with answers) about  abstract algebra.\n\n"
    "Find all c in Z_3 such that Z_3[x]/(x^2 + c) is a field.\nA. 0\nB. 1\nC. 12345\nD. 6.02e23\n"
    "Answer: B\n\n"
    "It's   what they'VE called\tnaïve, isn’t it?\n    Ελληνικά, 日本語, العربية, и 😀 – e\u0301\n"
    "A. None\nB. True, False\nAnswer: C"
)
