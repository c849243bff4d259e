"""GA4GH htsget 1.3: tickets of byte ranges into published artifacts (docs/adr/0036-htsget-and-names.md)."""
