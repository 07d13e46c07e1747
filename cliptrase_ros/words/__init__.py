"""Vocabularies: grammar, ids, prompts, embeddings, word files, checks before use."""
