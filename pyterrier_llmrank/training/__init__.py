"""Teaching rerankers and retrievers: losses, rewards and training data. Importing this loads no torch."""
