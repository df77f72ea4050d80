"""How figures are written: with three digits and a unit; ratios with two decimals."""

TIME = (("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3))


def duration(seconds):
    """Three digits and a unit."""
    for unit, scale in TIME:
        if seconds < 999.5 * scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def size(count):
    for unit, scale in (("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20)):
        if count < 999.5 * scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count / (1 << 30):.3g} GiB"


def figure(value, unit):
    return size(value) if unit == "byte" else duration(value)


def times(ratio):
    """Two decimals, or two digits of what would vanish in them."""
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"
