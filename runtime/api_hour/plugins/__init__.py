"""Building blocks for engines and for development, each usable without the rest of API-Hour."""
