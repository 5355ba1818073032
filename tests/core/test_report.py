"""The report is one file that needs nothing else, tells the whole run, and believes no text it is given."""

import base64
import math
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from isometry.curves import MOST_POINTS, Series, curves
from isometry.events import event
from isometry.figures import LARGEST_SVG, data_uris, panels, style
from isometry.report import write_report

HOSTILE = '<script>alert("x")</script><img src=http://evil.example/x.png>'
VOID = {"meta", "img", "source", "br", "link"}
CURVES = ["Loss", "Validation: mae_ev", "Learning rate", "Gradient norm", "Loss scale", "Mean squared gradient"]


class Page(HTMLParser):
    """The elements of a page; fails where tags do not nest."""

    def __init__(self, path):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def images(self):
        return {attrs["alt"]: attrs["src"] for tag, attrs in self.elements if tag == "img"}


def run(n_steps=50):
    settings = {"optim": {"rate": 0.001, "name": HOSTILE}, "seed": 7}
    events = [event("start", app="toy", run="runs/toy-1", settings=settings, n_parameters=12345, device="cpu")]
    for step in range(1, n_steps + 1):
        numbers = {"rate": 1e-3, "gradient_norm": 0.5, "scale": 1024.0}
        events.append(event("step", step=step, epoch=0, loss=1 / step, parts={"energy": 0.5 / step}, **numbers))
    for step in (n_steps // 2, n_steps):
        scores = {"mae_ev": 1.0 / step}
        events.append(event("eval", step=step, split="valid", scores=scores, is_best=True, mean_square_gradient=0.1))
    events.append(event("fault", step=3, epoch=0, kind="loss", records=[HOSTILE], message=HOSTILE))
    events.append(event("note", message=HOSTILE))
    events.append(event("stop", step=n_steps, reason="finished", seconds=61.0))
    seconds = np.linspace(0.0, 61.0, len(events))
    return [{**one, "time": 1e9 + float(second)} for one, second in zip(events, seconds, strict=True)]


def write(folder, events, **extras):
    return Page(write_report(folder / "report.html", events, title="A run", **extras))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """The page of a run whose every text is hostile."""
    extras = {"scores": {HOSTILE: 1.0}, "tables": {HOSTILE: [{HOSTILE: HOSTILE}]}}
    return write(tmp_path_factory.mktemp("hostile"), run(), summary=f"First.\n\n{HOSTILE}", **extras)


def test_every_curve_is_an_inline_image(hostile):
    images = hostile.images()
    assert list(images) == CURVES
    for source in images.values():
        kind, content = source.split(";base64,")
        assert kind == "data:image/svg+xml"
        assert base64.b64decode(content).rstrip().endswith(b"</svg>")


def test_nothing_is_fetched_and_nothing_runs(hostile):
    for tag, attributes in hostile.elements:
        assert tag not in {"script", "iframe", "object", "link", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "srcset"}:
                assert value.startswith("data:image/")
    assert "url(" not in hostile.source


def test_hostile_text_is_shown_as_text(hostile):
    assert hostile.text.count(HOSTILE) == 9  # summary, score, table (3), settings, record, message, note
    assert list(hostile.images()) == CURVES


def test_header_and_folded_settings_tell_the_run(hostile):
    for fact in ("A run", "First.", "runs/toy-1", "12,345", "finished", "1 min 01 s", "isometry", "Python", "torch"):
        assert fact in hostile.text
    assert hostile.text.index("Settings (3)") < hostile.text.index("optim.rate")
    folded = [attributes for tag, attributes in hostile.elements if tag == "details"]
    assert len(folded) == 3
    assert not any("open" in attributes for attributes in folded)


@pytest.mark.parametrize("kind", ["start", "step", "eval", "fault", "note", "stop", "all"])
def test_a_run_without_events_of_a_kind_has_a_report(tmp_path, kind):
    page = write(tmp_path, [] if kind == "all" else [one for one in run() if one["event"] != kind])
    assert "A run" in page.text
    assert ("Loss" in page.images()) == (kind not in {"step", "all"})


def test_values_that_are_missing_or_not_finite_do_not_stop_the_report(tmp_path):
    bare = [{"event": name, "time": 0.0} for name in ("start", "step", "eval", "fault", "save", "note", "stop")]
    odd = event("step", step=1, loss=math.nan, parts={"a": math.inf}, rate=None, gradient_norm=math.nan, scale=None)
    negative = event("step", step=2, loss=-1.0, parts={}, rate=0.0, gradient_norm=0.0, scale=0.0)
    assert "Loss" not in write(tmp_path, [*bare, odd]).images()
    assert "Loss" in write(tmp_path, [*bare, odd, negative]).images()


def test_scores_stand_beside_their_baselines(tmp_path):
    scores = {"this run": {"mae_ev": 0.0123456, "r2": 0.5}, "mean": {"mae_ev": 1.5, "r2": None}}
    text = write(tmp_path, [], scores=scores).text
    assert "score this run mean mae_ev 0.01235 1.5 r2 0.5 –" in text
    assert "mae_ev 0.01235" in write(tmp_path, [], scores={"mae_ev": 0.0123456}).text


def test_figures_of_the_app_come_inline_as_svg_or_if_large_as_png(tmp_path):
    points = np.random.default_rng(0).normal(size=(2, 20_000))
    with style():
        small, (few, _) = panels(1, 2)
        few.plot(points[0, :10], points[1, :10], ".")
        large, (many,) = panels()
        many.plot(*points, ".", alpha=0.3)
    images = write(tmp_path, run(), figures={"Few": small, "Many & <more>": large}).images()
    assert images["Few"].startswith("data:image/svg+xml;base64,")
    assert base64.b64decode(images["Many & <more>"].removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")


def test_a_figure_has_a_dark_twin_and_the_same_bytes_each_time():
    def drawn():
        with style():
            figure, (axes,) = panels()
            axes.plot([0, 1], [0, 1])
        return data_uris(figure)

    light, dark = drawn()
    assert (light, dark) == drawn()
    assert dark is not None
    svg = [base64.b64decode(uri.split(",")[1]).decode() for uri in (light, dark)]
    assert "#ffffff" in svg[0]
    assert "#ffffff" not in svg[1]
    assert len(svg[0]) < LARGEST_SVG


def test_a_step_told_twice_counts_as_last_told():
    events = [event("step", step=step, loss=loss) for step, loss in [(1, 3.0), (2, 9.0), (3, math.nan), (2, 2.0)]]
    series = Series.of(events, lambda one: one["loss"])
    assert (series.steps.tolist(), series.values.tolist()) == ([1, 2], [3.0, 2.0])


def test_long_runs_are_drawn_with_few_points_that_keep_the_mean_and_the_range():
    n_steps = 50 * MOST_POINTS
    values = np.random.default_rng(0).normal(size=n_steps) + 10
    events = [event("step", step=step, loss=value) for step, value in enumerate(values)]
    (curve,) = curves(events)
    (axes,) = curve.figure.axes
    line = np.asarray(axes.lines[0].get_ydata())
    band = axes.collections[0].get_datalim(axes.transData)
    assert len(line) == MOST_POINTS
    assert line.mean() == pytest.approx(values.mean())  # bins of equal size
    assert (band.y0, band.y1) == pytest.approx((values.min(), values.max()))


def test_many_faults_are_counted_and_the_first_are_listed(tmp_path):
    faults = [event("fault", step=step, kind="overflow", message=f"fault <{step}>") for step in range(1000)]
    text = write(tmp_path, faults).text
    assert "1000 × overflow" in text
    assert "fault <99>" in text
    assert "fault <100>" not in text


def test_time_between_a_stop_and_its_resumption_is_not_training(tmp_path):
    first, second = (
        [{"event": "start", "time": began}, {"event": "stop", "time": began + 100.0, "reason": "SIGTERM"}]
        for began in (0.0, 1e6)
    )
    assert "Trained for 3 min 20 s" in write(tmp_path, first + second).text


def test_a_failed_report_leaves_the_old_one_and_no_litter(tmp_path):
    path = tmp_path / "report.html"
    write(tmp_path, run())
    old = path.read_bytes()

    class Broken:
        def savefig(self, *_, **__):
            raise RuntimeError("no figure")

    with pytest.raises(RuntimeError, match="no figure"):
        write(tmp_path, run(), figures={"broken": Broken()})  # type: ignore[dict-item]
    with pytest.raises(OSError, match="No such file"):
        write_report(tmp_path / "nowhere" / "report.html", [], title="")
    assert path.read_bytes() == old
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]


def test_pyplot_stays_out_and_matplotlib_waits_until_it_is_needed(tmp_path):
    code = """
import sys
import isometry.report
assert "matplotlib" not in sys.modules
from isometry.events import event
isometry.report.write_report(sys.argv[1], [event("step", step=1, loss=1.0)], title="t")
import matplotlib
assert "matplotlib.pyplot" not in sys.modules
assert matplotlib.rcParams["axes.grid"] == matplotlib.rcParamsDefault["axes.grid"]
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "report.html")], check=True)


def test_colours_of_the_palette_differ_for_every_common_kind_of_sight():
    """Simulated after Machado et al. 2009, eqs. for severity 1; distances in linear RGB, 0 to 1."""
    from isometry.figures import PALETTE

    kinds = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    }
    coded = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in PALETTE])
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    for matrix in kinds.values():
        seen = linear @ np.array(matrix).T
        apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + 10 * np.eye(len(seen))
        assert apart.min() > 0.05
