"""What a curriculum promises: a level that progress alone decides, heard by data and model, and never by scores."""

import pytest
import torch
from isometry.curriculum import Curriculum, CurriculumSettings, length_at, level_at
from isometry.flags import with_flags
from isometry.order import Loader, Order
from isometry.task import FitSettings
from isometry_wave.dataset import Staged
from isometry_wave.model import WaveModel, WaveModelSettings

STAGES = {"levels": (0.25, 0.5, 1.0), "begins": (0.0, 0.4, 0.8)}
LINEAR = {**STAGES, "growth": "linear"}


class Levelled(WaveModel):
    """Tells at which levels it was used."""

    def __init__(self) -> None:
        super().__init__(WaveModelSettings())
        self.level, self.heard = 1.0, []

    def set_level(self, level: float) -> None:
        self.level = level

    def forward(self, x):
        self.heard.append((self.training, self.level))
        return super().forward(x) * self.level


def staged(with_task, **parts):
    def change(task):
        torch.manual_seed(0)
        return with_task(train=Staged(), model=Levelled(), **parts)(task)

    return change


def test_no_stages_are_the_whole_task_from_the_start():
    assert [level_at(p, CurriculumSettings()) for p in (0.0, 0.5, 1.0)] == [1.0, 1.0, 1.0]


def test_stages_keep_their_level_until_the_next_begins():
    of = CurriculumSettings(**STAGES)
    assert [level_at(p, of) for p in (0, 0.39, 0.4, 0.79, 0.8, 1)] == [0.25, 0.25, 0.5, 0.5, 1, 1]


def test_linear_growth_reaches_each_stage_as_it_begins():
    of = CurriculumSettings(**LINEAR)
    assert [level_at(p, of) for p in (0, 0.2, 0.4, 0.6, 0.8, 1)] == pytest.approx([0.25, 0.375, 0.5, 0.75, 1, 1])


def test_stages_without_begins_are_equally_long():
    curriculum = Curriculum(CurriculumSettings(levels=(0.5, 1.0)), n_epochs=6)
    assert [curriculum.level(epoch) for epoch in range(6)] == [0.5, 0.5, 0.5, 1, 1, 1]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"levels": (0.5,)}, "last is 1"),
        ({"levels": (0.0, 1.0)}, "above 0"),
        ({"levels": (0.8, 0.5, 1.0)}, "rising"),
        ({"levels": (0.5, 1.0), "begins": (0.0,)}, "one begin for each level"),
        ({"levels": (0.5, 1.0), "begins": (0.1, 0.5)}, "from 0"),
        ({"begins": (0.0,)}, "one begin for each level"),
    ],
)
def test_stages_that_mean_nothing_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        CurriculumSettings(**wrong)


def test_a_curriculum_is_a_flag_of_every_app():
    flags = ["--curriculum.levels", "0.5", "1", "--curriculum.begins", "0", "0.3", "--curriculum.growth", "linear"]
    settings = with_flags(FitSettings(), flags, "test")
    assert settings.curriculum == CurriculumSettings(levels=(0.5, 1.0), begins=(0.0, 0.3), growth="linear")


def test_lengths_grow_to_the_whole_in_multiples():
    assert [length_at(level, 8, 100, 8) for level in (0.01, 0.1, 0.17, 0.5, 0.99, 1.0)] == [8, 8, 16, 48, 96, 100]
    assert length_at(0.3, 1, 10) == 3
    with pytest.raises(ValueError, match="shortest <= longest"):
        length_at(0.5, 10, 5)


@pytest.mark.parametrize("n_workers", [0, 2])
def test_records_are_drawn_at_the_level_of_the_epoch(n_workers):
    curriculum = Curriculum(CurriculumSettings(**STAGES), n_epochs=5)
    records, order = Staged(), Order(60, 16, seed=0)
    loader = Loader(
        records, lambda items: torch.stack([x for x, _ in items]), n_workers=n_workers, curriculum=curriculum
    )
    for epoch, level in enumerate((0.25, 0.25, 0.5, 0.5, 1.0)):
        drawn = torch.cat(list(loader.fetch(order.batches(epoch), epoch)))
        expected = torch.cat([records.x[torch.from_numpy(batch)] for batch in order.batches(epoch)])
        assert torch.equal(drawn, expected * level)


def test_records_that_know_levels_are_whole_without_a_curriculum():
    records = Staged()
    (batch,) = Loader(records, lambda items: torch.stack([x for x, _ in items])).fetch([range(60)])
    assert torch.equal(batch, records.x)


def test_the_model_trains_at_the_level_of_the_epoch_and_is_scored_at_level_1(run, with_task):
    done = run("levels", staged(with_task), fit={"epochs": 5, "curriculum": STAGES}).until_end()
    heard = done.fit.model.heard
    assert list(dict.fromkeys(level for is_training, level in heard if is_training)) == [0.25, 0.5, 1.0]
    assert {level for is_training, level in heard if not is_training} == {1.0}
    assert done.fit.model.level == 1.0
    assert [event["level"] for event in done.of("eval")] == [0.25, 0.25, 0.5, 0.5, 1.0]


@pytest.mark.parametrize("growth", ["steps", "linear"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stopped_curriculum_goes_on_bit_for_bit(run, with_task, same_bits, growth, workers):
    fit = {"epochs": 5, "workers": workers, "curriculum": {**STAGES, "growth": growth}}
    whole = run("whole", staged(with_task), fit={**fit, "workers": 0}).until_end()
    for tick in (5, 8, 10) if workers == 0 else (10,):  # four batches an epoch: within one, at an end, in a new stage
        stopped = run(f"stopped-{tick}", staged(with_task), fit=fit).stopped_at(tick).until_end()
        same_bits(stopped.fit.state(), whole.fit.state())


def test_a_curriculum_for_an_app_without_levels_is_refused_in_one_line(run):
    with pytest.raises(ValueError, match=r"has no levels.*set_level") as caught:
        run("refused", fit={"curriculum": STAGES})
    assert "\n" not in str(caught.value)


def test_either_side_alone_may_know_levels(run, with_task):
    run("data", with_task(train=Staged()), fit={"epochs": 1, "curriculum": STAGES})
    run("model", with_task(model=Levelled()), fit={"epochs": 1, "curriculum": STAGES})
