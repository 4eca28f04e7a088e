"""Ordinary words that stand where a name or a password could, in the five languages of the recognisers; casefolded."""

NO_SECRET = frozenset(
    """
    required optional bearer digest string number boolean integer object hidden incorrect correct invalid valid missing
    unknown expired changed wrong default undefined example sample secret password passwort contraseña token public
    private enabled disabled rejected accepted protected encrypted unset needed nothing anything something whatever
    redacted removed masked please forgotten forgot stolen leaked locked blocked weak strong empty blank mandatory
    falsch richtig ungültig vergessen abgelaufen erforderlich incorrecto incorrecta inválido inválida válida olvidada
    requerido requerida obligatorio incorrecte valide invalide oublié expiré obligatoire errata sbagliata valida scaduta
    richiesta obbligatorio
    """.split()
)
"""What is said of a password, or of what belongs in its place."""

ROLES = frozenset(
    """
    all anyone anybody chatgpt openai gpt ai bot chatbot everyone everybody someone nobody team teams customer customers
    client clients user users member members subscriber subscribers guest guests reader readers reviewer reviewers
    editor editors author authors colleague colleagues friend friends folks neighbour neighbor neighbours neighbors
    parent parents student students teacher teachers professor professors doctor doctors employee employees employer
    employers applicant applicants candidate candidates recruiter recruiters manager managers management director
    directors president chairman chairwoman chair speaker minister senator ambassador principal dean officer officers
    secretary committee board department office division human resources hiring admissions support service services
    sales marketing finance accounting engineering legal staff crew group council company corporation corp inc ltd llc
    gmbh university college school hospital bank award prize sir sirs madam ma'am mr mrs ms dr prof sr sra sig dott herr
    frau father mother mom mum dad santa god lord lady diary internet world developer engineer analyst consultant
    designer architect administrator scientist programmer technician specialist associate assistant sender recipient
    name title phone email e-mail mail address subject date message re fw fwd ticket order invoice product item dear
    regards english french german spanish italian kolleginnen kollegen kollege kollegin kunde kunden kundin damen herren
    grüße grüsse gruß freunde freundin freund eltern mitarbeiter mitarbeiterin mitarbeiterinnen nutzer leser ober kaiser
    papst monsieur madame cliente chers chères collègue collègues ami amie amis équipe señor señora señores equipo amigo
    amiga amigos clientes colega colegas signore signora signori gentili collega colleghi amico amica amici clienti
    """.split()
)
"""Whom people address without a name, and what else stands in a field or under a letter: organisations, the next field."""

SPEECH = frozenset(
    """
    hello hi hey good thanks thank thx yes no not ok okay sure well sorry please welcome best kind warm i i'm i'd i've
    you we they he she it the a an this that these those my your our his her their what when where which who why how can
    could would should will shall may might must do does did is are was were have has had if in on at to for and or but
    so monday tuesday wednesday thursday friday saturday sunday january february march april june july august september
    october november december today tomorrow tonight back asap maybe later now crazy liebe sehr guten hallo danke ja
    nein bonjour merci oui non hola gracias sí buenos ciao grazie buongiorno
    """.split()
)
"""How people go on, or begin to say something."""

TITLED = frozenset(
    """
    pepper no who strange seuss martens dre evil doom jekyll frankenstein dolittle zhivago strangelove oetker scholl
    moreau octopus manhattan freeze robotnik faust bean robot clean muscle potato peanut coffee right wrong wonderful
    fantastic big incredible magoo darcy miyagi t president doubtfire dalloway butterworth claus marvel pac pac-man
    bovary tussauds butterfly defarge quixote quijote corleone juan giovanni pasquale holle
    """.split()
)
"""Brands, works and figures of fiction that bear a title: Dr Pepper, Mr. Bean, Madame Bovary."""
