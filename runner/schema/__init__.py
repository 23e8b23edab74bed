"""The shape of answers: JSON Schemas, what an answer is by one, and what providers take of one. No I/O."""
