"""Services hold the business logic; they take an engine and know neither HTTP nor container."""
