"""Work that takes the processor. The processes of the pool import this module, and little else."""


def count_primes(limit: int) -> int:
    """Return how many primes are below ``limit``."""
    sieve = bytearray([1]) * max(limit, 2)
    sieve[:2] = b"\0\0"
    for number in range(2, limit):
        if sieve[number]:
            for multiple in range(number * number, limit, number):
                sieve[multiple] = 0
    return sum(sieve)
