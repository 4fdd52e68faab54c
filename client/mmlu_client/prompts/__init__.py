"""A question and its shots → the token ids of a prompt, in the wording of each format."""
