"""Words: grammar, ids, prompts, embeddings, lists in files, checks before use."""
