"""HTTP/1.1 over sockets, with limits that hold while a request is parsed (docs/adr/0025)."""
