"""What a store means by its answers, and the records by which writers say that they are done."""
