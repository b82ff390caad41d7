"""How numbers become keys: imported where TaskManagers run."""


def key_of(number: int) -> str:
    return f"key-{number % 4}"
