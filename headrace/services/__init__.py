"""Use cases, framework-free: each is given its ports and says what happens in the words of the glossary."""
