"""The goal as it is."""

from online.evaluation.attacks.attack import Attack, rewritten

ATTACK = Attack(
    name="direct",
    about="The goal as it is: the control that every attack is compared with.",
    source="no attack",
    tries=rewritten(lambda goal, luck: goal),
)
