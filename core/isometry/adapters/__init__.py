"""The doctor in other people's training loops: plain PyTorch (`watch`), Lightning (`lightning`), Hugging Face
(`hugging_face`). Each module is imported by itself; only then is its library."""
