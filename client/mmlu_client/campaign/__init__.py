"""Many runs from one file: which they are, where they are made, and what came out of them."""
