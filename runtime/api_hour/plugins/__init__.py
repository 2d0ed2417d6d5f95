"""Parts for engines and development, each usable without the rest of API-Hour."""
