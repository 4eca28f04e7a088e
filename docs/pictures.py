"""Draw the pictures of the pages: `python -m docs.pictures` (`make docs` does it first).

Each picture is a list of boxes and arrows in SVG, with light and dark colours of its own. A module that is renamed is
renamed here; a test holds the pictures to the files that they name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

Step = tuple[str, str, tuple[str, ...], tuple[str, ...]]
"""Of a box: its kind, title, lines of words, lines of modules (a folder's name before the first of each line)."""
FOLDER = Path(__file__).parent / "images"
STYLE = """
.card{fill:#fff;stroke:#d0d7de}.panel{fill:#f6f8fa;stroke:#d0d7de}
.vllm{fill:#eceff2;stroke:#8c959f}.guard{fill:#fff1e5;stroke:#bc4c00}.learner{fill:#dff5f0;stroke:#0f766e}.person{fill:#fff;stroke:#57606a}
text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:#1f2328}
.title{font-weight:600}.line,.label,.name{fill:#424a53}
.module{font-family:ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace;fill:#424a53}
.arrow{fill:none;stroke:#57606a;stroke-width:1.6}.head{fill:#57606a}
@media (prefers-color-scheme:dark){
.card{fill:#161b22;stroke:#3d444d}.panel{fill:#1d242d;stroke:#3d444d}
.vllm{fill:#2b323b;stroke:#8c959f}.guard{fill:#3d2616;stroke:#f0883e}.learner{fill:#12332f;stroke:#3cc2ae}.person{fill:#161b22;stroke:#9198a1}
text{fill:#f0f6fc}.line,.label,.name,.module{fill:#c5ccd3}
.arrow{stroke:#9198a1}.head{fill:#9198a1}}
"""


class Picture:
    """An SVG of `width` x `height` pixels, drawn in the order of the calls."""

    def __init__(self, width: int, height: int, title: str, *, size: int = 13) -> None:
        self.size = size
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            'role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            'markerUnits="userSpaceOnUse" orient="auto"><path class="head" d="M0,0 8,4 0,8z"/></marker></defs>',
            f'<rect class="card" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="10"/>',
        ]

    def text(self, x: float, y: float, words: str, kind: str, *, size: float | None = None, anchor: str = "start") -> None:
        self.parts.append(
            f'<text class="{kind}" x="{x:g}" y="{y:g}" font-size="{size or self.size:g}" text-anchor="{anchor}">'
            f"{escape(words)}</text>"
        )

    def panel(self, x: int, y: int, width: int, height: int, name: str) -> None:
        """A frame around boxes, with a name above them."""
        self.parts.append(f'<rect class="panel" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>')
        self.text(x + width / 2, y + self.size + 8, name, "name", anchor="middle")

    def box(
        self,
        x: int,
        y: int,
        width: int,
        height: int,
        kind: str,
        title: str,
        lines: Sequence[str],
        modules: Sequence[str] = (),
    ) -> None:
        """A box with a title, lines of words and names of modules, from its upper left corner."""
        place = f'x="{x}" y="{y}" width="{width}" height="{height}"'
        self.parts.append(f'<rect class="{kind}" {place} rx="6" stroke-width="1.4"/>')
        self.text(x + 10, y + self.size + 7, title, "title")
        y += self.size + 7
        for line in lines:
            y += self.size + 3
            self.text(x + 10, y, line, "line", size=self.size - 1.5)
        for module in modules:
            y += self.size + 2
            self.text(x + 10, y, module, "module", size=self.size - 2.5)

    def arrow(self, *points: tuple[int, int], label: str = "", at: tuple[int, int] | None = None) -> None:
        """An arrow along `points`, with a label that begins `at`."""
        path = " ".join(f"{x},{y}" for x, y in points)
        self.parts.append(f'<polyline class="arrow" points="{path}" marker-end="url(#head)"/>')
        if label and at:
            self.text(*at, label, "label", size=self.size - 1.5)

    def svg(self) -> str:
        return "\n".join([*self.parts, "</svg>"]) + "\n"


def overview() -> str:
    """What sirl-guard is, in one picture."""
    picture = Picture(760, 440, "sirl-guard: a guard inside vLLM's server, and a learner beside it", size=15)
    picture.box(20, 20, 720, 40, "person", "Any OpenAI client, unchanged", ())
    picture.panel(20, 102, 720, 132, "sirl serve: vLLM's own server")
    guards = ("measures entropy and refusal mass of each", "token, reports, halts what its rule touches")
    picture.box(36, 136, 330, 82, "guard", "Guard", guards)
    picture.box(426, 136, 300, 82, "vllm", "vLLM's engine", ("with the probe in its workers,", "and the active adapter"))
    picture.panel(20, 296, 720, 126, "sirl learn: a process beside it")
    for x, title, lines in (
        (36, "Buffer", ("events,", "redacted")),
        (216, "Training set", ("what the base", "hesitates on")),
        (396, "Update", ("trains a LoRA,", "without labels")),
        (576, "Gate", ("defence up,", "over-refusal not")),
    ):
        picture.box(x, 330, 150, 78, "learner", title, lines)
    for x in (186, 366, 546):
        picture.arrow((x, 369), (x + 30, 369))
    picture.arrow((120, 60), (120, 136), label="prompt", at=(64, 86))
    picture.arrow((230, 136), (230, 60), label="answer, with a report", at=(240, 86))
    picture.arrow((426, 160), (366, 160))
    picture.arrow((366, 194), (426, 194))
    picture.arrow((110, 218), (110, 330), label="some responses, as events", at=(120, 270))
    picture.arrow((651, 330), (651, 218), label="released by stages, taken back if worse", at=(374, 270))
    return picture.svg()


def request() -> str:
    """The way of one request: down to the worker, back up to the client, and to the buffer."""
    picture = Picture(640, 750, "The way of one request")
    left, right, width = 20, 330, 270
    picture.box(left, 16, 580, 34, "person", "Client", ())
    down: tuple[Step, ...] = (
        ("guard", "1  Key", ("checked before the body is read",), ("serving/request/api_keys",)),
        (
            "guard",
            "2  Options in",
            ("policy of the key, wished version,", "size of the body"),
            ("serving/request/middleware, body", "serving/request/policies, offered_models"),
        ),
        ("vllm", "3  vLLM's route", ("template, tokenizer, parameters",), ()),
        (
            "guard",
            "4  Guarded engine",
            ("refuses what cannot be guarded,", "leases the active adapter"),
            ("serving/engine/guarded, fields", "serving/engine/adapters, lora_modules"),
        ),
    )
    up: tuple[Step, ...] = (
        (
            "guard",
            "9  Report out",
            ("the member guard, words of a halt",),
            ("serving/request/reporter", "serving/api_formats"),
        ),
        ("vllm", "8  vLLM's route", ("text, tool calls, events of a stream",), ()),
        ("vllm", "7  vLLM's output processor", ("sees only what may leave",), ()),
        (
            "guard",
            "6  Output tap",
            ("takes the measurement off the token,", "holds, halts or draws anew"),
            ("serving/engine/output_tap", "guard/gatekeeper, beginnings"),
        ),
    )
    tops, heights = (84, 186, 308, 384), (76, 92, 44, 92)
    for x, steps in ((left, down), (right, up)):
        for step, top, height in zip(steps, tops, heights, strict=True):
            picture.box(x, top, width, height, *step)
    for before, after in ((50, 84), (160, 186), (278, 308), (352, 384)):
        picture.arrow((155, before), (155, after))
        picture.arrow((465, after), (465, before))
    measured = "the probe reads raw logits, and packs entropy and refusal mass into the token's word"
    modules = ("serving/engine/worker, probe, probe_v2, trees", "guard/packed_measurement")
    picture.box(left, 506, 580, 76, "vllm", "5  vLLM's scheduler and worker", (measured,), modules)
    picture.arrow((155, 476), (155, 506))
    picture.arrow((465, 506), (465, 476))
    picture.box(
        left, 634, width, 98, "guard", "10  Response recorder",
        ("verdict, metrics, release statistics;", "no client waits for it"),
        ("serving/lifecycle/response_recorder", "guard/verdict, record"),
    )  # fmt: skip
    picture.box(
        right, 634, width, 98, "learner", "11  Buffer",
        ("in a thread: redacted by a process of", "its own, then a transaction a batch"),
        ("online/events/writer, redactor", "online/events/buffer, journal"),
    )  # fmt: skip
    finished = ((600, 426), (620, 426), (620, 608), (155, 608), (155, 634))
    picture.arrow(*finished, label="the finished response", at=(484, 603))
    picture.arrow((290, 683), (330, 683))
    return picture.svg()


def adapter() -> str:
    """The way of one adapter: from events to the engine, and back where it turns out worse."""
    picture = Picture(640, 820, "The way of one adapter")
    staged = ("serving/lifecycle/release", "online/registry/release_stages")
    steps: tuple[Step, ...] = (
        (
            "learner",
            "1  Entropy gap",
            ("are refusals the surer mode?", "if not, the update is refused"),
            ("online/training/entropy_gap",),
        ),
        (
            "learner",
            "2  Admission",
            ("near-duplicates out, quarantine,", "reviews of operators"),
            ("online/admission/queue, quarantine", "online/admission/review"),
        ),
        (
            "learner",
            "3  Training set",
            ("the frozen base sorts into bands,", "quotas by client, block and topic"),
            ("online/training/training_set", "online/training/selector, quotas"),
        ),
        (
            "learner",
            "4  Training",
            ("a fresh LoRA on the base,", "looks at held-out prompts on the way"),
            ("online/training/trainer, objective", "online/training/rollouts"),
        ),
        (
            "learner",
            "5  Version",
            ("adapter, manifest and ledger,", "each file with its digest, signed"),
            ("online/registry/registry, version_store", "online/registry/signature"),
        ),
        (
            "learner",
            "6  Calibration",
            ("its own openings,", "bands and threshold"),
            ("online/calibration/calibrate",),
        ),
        (
            "learner",
            "7  Gate",
            ("held-out prompts, drawn anew, against", "base, active and best version"),
            ("online/gate/gate, examination, look",),
        ),
        ("guard", "8  Shadow", ("answers copies of live prompts,", "nobody sees it"), staged),
        ("guard", "9  Canary", ("some clients get it,", "both sides are compared"), staged),
        (
            "guard",
            "10  Active version",
            ("live.json names it,", "the service loads and swaps"),
            ("online/registry/active_version", "serving/lifecycle/service"),
        ),
    )
    picture.box(20, 16, 580, 34, "learner", "Buffer: events of the traffic, and the suites", ())
    picture.arrow((155, 50), (155, 80))
    for number, step in enumerate(steps):
        row, second = divmod(number, 2)
        column = second if row % 2 == 0 else 1 - second
        x, y = (20, 330)[column], 80 + 122 * row
        picture.box(x, y, 270, 92, *step)
        if not second:
            picture.arrow(*(((290, y + 46), (330, y + 46)) if column == 0 else ((330, y + 46), (290, y + 46))))
        elif number < len(steps) - 1:
            picture.arrow((x + 135, y + 92), (x + 135, y + 122))
    lease = ("new responses lease the new version, those under way finish on the one before",)
    picture.box(20, 690, 580, 50, "vllm", "vLLM's engine", lease)
    picture.arrow((465, 660), (465, 690))
    back = ("withdrawn at its stage, or rolled back to the last good version, else to the base",)
    picture.box(20, 756, 580, 50, "guard", "Taken back, if it turns out worse", back)
    picture.arrow((600, 614), (620, 614), (620, 781), (600, 781))
    return picture.svg()


PICTURES: dict[str, Callable[[], str]] = {"overview.svg": overview, "request.svg": request, "adapter.svg": adapter}


def main() -> None:
    """Draw every picture anew."""
    for name, draw in PICTURES.items():
        (FOLDER / name).write_text(draw(), "utf-8")


if __name__ == "__main__":
    main()
