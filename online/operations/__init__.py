"""Operations: what is done to an installation, one module a noun. Commands, the HTTP API and a console all call these."""
