"""What a check found, as text."""

_NAME_WIDTH = 24


def line(name: str, status: str, found: str, advice: str) -> str:
    """One point, and what to do about it on a line of its own."""
    first, *more = found.splitlines() or [""]
    lines = [f"{status:<9}{name:<{_NAME_WIDTH}}{first}"]
    indent = " " * (9 + _NAME_WIDTH)
    lines += [f"{indent}{each.strip()}" for each in more]
    if advice:
        lines.append(f"{indent}-> {advice}")
    return "\n".join(lines)
