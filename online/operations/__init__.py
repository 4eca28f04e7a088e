"""Operations: what commands, the HTTP API and a console do to an installation, one module each."""
