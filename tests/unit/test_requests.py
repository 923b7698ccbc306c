"""Requests and estimates: how they add up from their parts."""

import importlib
import sys
from pathlib import Path

import pytest
import yaml
from grokphase import estimation, resources
from grokphase.config import load_config
from grokphase.estimation import Job, Profile
from grokphase.resources import Resources, Slowness
from grokphase.sampling import ensemble, kernels

ROOT = Path(__file__).parents[2]


def config(scale="paper"):
    return load_config(ROOT / "config.yaml", scale)


def training(experiment="teacher_student", scale="paper", **changes):
    whole = config(scale)
    points = whole.experiments[experiment].points()
    one = whole.training(experiment, next(iter(points)))
    return one.model_copy(update=changes)


def with_tail():
    """Training of a point whose tail is sampled."""
    whole = config()
    points = whole.experiments["teacher_student"].points()
    ones = (whole.training("teacher_student", point) for point in points)
    return next(one for one in ones if one.umbrella is not None)


def work(specification, datasets=1):
    """Seconds of a job beside its start."""
    return resources.training(specification, datasets).seconds - resources.TRAINING_START


# --- requests -------------------------------------------------------------------------------------


def test_every_attempt_asks_for_as_much_time_again():
    first = resources.time_request(6000.0, 1)
    minutes = resources.TIME_MARGIN * 100 + resources.START_MINUTES
    assert minutes <= first < minutes + 1
    for attempt in (2, 3):
        assert attempt * minutes <= resources.time_request(6000.0, attempt) < attempt * minutes + 1


def test_every_attempt_asks_for_half_as_much_memory_again():
    """For Snakemake beside the job too."""
    once = (1000 + resources.SNAKEMAKE_MEMORY) * resources.MEMORY_MARGIN
    for attempt, factor in ((1, 1.0), (2, 1.5), (3, 2.0)):
        found = resources.memory_request(1000.0, attempt)
        assert found == pytest.approx(factor * once + 0.5, abs=0.51)


def test_a_job_that_is_all_start_has_no_work_on_a_fast_or_slow_machine():
    found = resources.on_machine(Resources(0.5, 100.0), Slowness(work=5.0, start=2.0))
    assert found == (2.0 * resources.TRAINING_START, 100.0)


def test_regression_holds_matrices_of_all_pairs():
    """Memory by the square of the training set; time too, with room for their factorisation."""
    small, large = resources.baseline(10_000), resources.baseline(20_000)
    assert large.memory - small.memory == pytest.approx(2 * 8 * 3e8 / 2**20)
    assert large.seconds - small.seconds == pytest.approx(3e8 / 1e7 + 7e12 / 2e10)


# --- what training is made of ---------------------------------------------------------------------


def test_networks_and_datasets_each_take_their_time():
    one = training()
    more = one.networks.model_copy(update={"prior": one.networks.prior + 3})
    networks = len(one.networks.starts())
    several = one.model_copy(update={"networks": more})
    assert work(one, 5) == pytest.approx(5 * work(one))
    assert work(several) == pytest.approx(work(one) * (networks + 3) / networks)


def test_a_tail_takes_the_time_of_its_steps_and_of_its_profiles():
    """Those of the draws, of all windows, and those compared of one network."""
    one = with_tail()
    networks, windows = len(one.networks.starts()), len(one.umbrella.overlaps)
    more = one.umbrella.model_copy(update={"draws": one.umbrella.draws + 1, "burn_in": 0})
    same = one.umbrella.model_copy(update={"burn_in": 1})
    # As many steps in every window, one of which records more.
    steps = one.model_copy(update={"umbrella": same}), one.model_copy(update={"umbrella": more})
    assert steps[0].steps_in_all == steps[1].steps_in_all
    profile = resources.profile(one.parameters)
    assert work(steps[1]) - work(steps[0]) == pytest.approx(networks * windows * profile)
    none = one.umbrella.model_copy(update={"overlaps": ()})
    without, alone = (one.model_copy(update={"umbrella": x}) for x in (None, none))
    wanted = networks * one.draws * profile + resources.PROFILES_COMPARED * profile
    assert work(alone) - work(without) == pytest.approx(wanted)


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("experiment", ["teacher_student", "modular_small"])
def test_sweeps_take_their_time_and_memory(experiment, bfloat16, monkeypatch):
    """Every further one as much; with the first come a gradient after each step, the forward pass
    that they begin with, unless approximate trajectories have computed it, and the densities of
    every other draw."""
    monkeypatch.setattr(resources, "multiplies_bfloat16", lambda: bfloat16)
    none, one, two = (
        training(experiment, neuron_sweeps=n, unadjusted_sweeps=None, umbrella=None)
        for n in (0, 1, 2)
    )
    networks, of_sweep = len(one.networks.starts()), resources.sweep(one.parameters)
    of_sweeps = networks * one.steps_in_all * of_sweep.seconds
    assert work(two) - work(one) == pytest.approx(of_sweeps)
    with_each = resources.gradient(one.parameters).seconds
    with_first = 0.0
    if experiment == "teacher_student":
        with_first += networks * -(-one.draws // 2) * resources.density(one.parameters)
        with_each *= resources.BFLOAT16_SHARE if bfloat16 else 1
        with_each += 0 if bfloat16 else resources.potential(one.parameters)
    with_first += networks * one.steps_in_all * with_each
    assert work(one) - work(none) == pytest.approx(of_sweeps + with_first)
    memory = [resources.training(x, 1).memory for x in (none, one)]
    assert memory[1] - memory[0] == pytest.approx(of_sweep.memory)


def test_programs_of_long_work_and_of_sweeps_take_longer_to_compile(monkeypatch):
    monkeypatch.setattr(resources, "multiplies_bfloat16", lambda: False)
    short, long, tail = training(scale="quick"), training(), with_tail()
    plain = short.model_copy(update={"neuron_sweeps": 0, "unadjusted_sweeps": None})
    assert work(plain) < work(short) < resources.SHORT_SECONDS < work(long)
    assert resources.compilation(plain) == resources.COMPILATION
    of_sweeps = resources.COMPILATION + resources.COMPILATION_OF_SWEEPS
    assert resources.compilation(short) == of_sweeps
    longer = of_sweeps * resources.COMPILATION_FOR_LONG_WORK
    assert resources.compilation(long) == pytest.approx(longer)
    # Windows are made by the same programs.
    assert work(tail) > work(long)
    assert resources.compilation(tail) == resources.compilation(long)
    short_tail = short.model_copy(update={"umbrella": tail.umbrella, "draws": 100})
    without = short_tail.model_copy(update={"umbrella": None})
    assert work(without) < resources.SHORT_SECONDS < work(short_tail)
    assert resources.compilation(short_tail) == of_sweeps


def test_gradients_without_readouts_hold_their_matrices():
    """And for every step those of the kernel, and one each to begin and to draw the readouts."""
    joint = training("modular_heldout", neuron_sweeps=0, unadjusted_sweeps=None)
    of = joint.parameters.model_copy(update={"train_fraction": 1.0, "width": 3000})
    joint = joint.model_copy(update={"parameters": of})
    collapsed = joint.model_copy(update={"collapsed_readout": True})
    plain, needed = resources.gradient(of), resources.collapsed_gradient(of)
    assert needed.memory > plain.memory
    found = resources.training(collapsed, 1)
    assert found.memory == pytest.approx(resources.TRAINING_MEMORY + needed.memory)
    steps = len(joint.networks.starts()) * joint.steps_in_all
    gradients = work(joint) / steps / plain.seconds
    of_step = plain.seconds + (gradients + 2) * needed.seconds
    assert work(collapsed) == pytest.approx(steps * of_step)


# --- what a job needs -----------------------------------------------------------------------------


def test_what_jobs_write_grows_with_what_they_hold():
    whole = config()
    name = "teacher_student"
    experiment = whole.experiments[name]
    point = next(iter(experiment.points()))
    job = {"experiment": name, "point": point}
    one, four = (
        estimation.needs(job | {"rule": "train", "datasets": text}, whole) for text in ("3", "3-6")
    )
    assert four.needs.seconds > one.needs.seconds
    networks = len(whole.training(name, point).networks.starts())
    trained = whole.training(name, point)
    assert trained.umbrella is None
    of_network = (four.disk - one.disk) / 3 / networks
    assert of_network == pytest.approx(0.002 + 4e-5 * trained.draws)
    tail = with_tail()
    one, four = (
        estimation.needs(
            {"rule": "train", "experiment": name, "point": tail.point, "datasets": text}, whole
        )
        for text in ("3", "3-6")
    )
    of_network = (four.disk - one.disk) / 3 / len(tail.networks.starts())
    assert of_network == pytest.approx(0.007 + 4e-5 * tail.draws)
    dataset = estimation.needs({"rule": "dataset", "experiment": name, "dataset": "0"}, whole)
    of = experiment.points()[point]
    size = of.train_size * (of.input_dim + 1) * 4 / 2**20
    assert dataset.disk == pytest.approx(size)
    assert dataset.needs.memory == pytest.approx(90 + 2 * size)
    regression = estimation.needs({"rule": "baseline", "experiment": name, "dataset": "0"}, whole)
    assert regression.needs == resources.baseline(of.train_size)
    assert estimation.needs({"rule": "all"}, whole) is None


START = resources.JUDGING_START


def test_figures_and_summaries_judge_their_points():
    """Seven points of figure 1, all 32 of figure 2 and of the experiment, none of figure 3."""

    def seconds(rule, **of):
        return estimation.needs({"rule": rule} | of, config()).needs.seconds

    fig1, fig2, fig3 = (seconds("figure", figure=name) for name in ("fig1", "fig2", "fig3"))
    assert fig3 == resources.SECONDS["figure"]
    assert fig1 - fig3 == pytest.approx(resources.judging([80] * 7).seconds)
    assert fig2 - fig1 == pytest.approx(25 * resources.judging([80]).seconds - 25 * START)
    summary = seconds("summary", experiment="teacher_student")
    assert summary - resources.SECONDS["summary"] == pytest.approx(fig2 - fig3)


def test_long_chains_take_longer_to_judge_and_more_disk():
    """A hundred times as many draws of each of 20 networks, up to those that are kept."""
    name, long = "teacher_student", {}
    for draws in (4, 400, 4096, 10_000, 20_000):
        source = yaml.safe_load((ROOT / "config.yaml").read_text())
        source["experiments"][name]["sampler"]["draws"] = draws
        of = load_config(source)
        point = next(iter(of.experiments[name].points()))
        job = {"experiment": name, "point": point, "rule": "aggregate"}
        figure = {"rule": "figure", "figure": "fig1"}
        long[draws] = estimation.needs(job, of).disk, estimation.needs(figure, of).needs
    (disk, short), (more_disk, longer), (whole, _), most, all_the_same = long.values()
    assert more_disk - disk == pytest.approx(20 * 396 * 7 * 8 / 2**20)
    assert longer.seconds - short.seconds == pytest.approx(
        7 * 20 * 396 * resources.SECONDS_PER_DRAW_JUDGED
    )
    assert longer.memory > short.memory
    assert most == all_the_same
    # Beside the draws that are kept the means of the batches that they stand for.
    assert most[0] - disk == pytest.approx(2 * (whole - disk), rel=0.01)


# --- totals ---------------------------------------------------------------------------------------


def job(stage, seconds, memory=400.0, disk=1.0):
    return Job(stage, Resources(seconds, memory), disk)


def test_stages_of_one_machine_follow_one_another():
    """Datasets, then all that is computed, then figures; the largest job's memory, all disk."""
    jobs = [job("dataset", 1.0), job("train", 40.0, 700.0), job("theory", 30.0), job("figure", 5.0)]
    found = estimation.estimate(jobs, Profile(cores=4))
    wall = 1 + 40 + 5 + 3 * estimation.JOB_SECONDS + estimation.START_SECONDS
    assert found.wall_seconds == pytest.approx(wall)
    assert found.core_seconds == pytest.approx(
        76 + 4 * estimation.JOB_SECONDS + estimation.START_SECONDS
    )
    assert (found.memory, found.disk, found.submissions) == (700, 4, 0)


def test_nothing_to_do_takes_nothing():
    assert estimation.estimate([], Profile(cores=4)) == (0, 0, 0, 0, 0)


def test_jobs_of_a_cluster_travel_in_groups_of_equal_length():
    """The longest together; each group on its own cores, as many groups at a time as are allowed;
    other stages on the login node's cores."""
    sizes = {"train": 2}
    profile = Profile(cluster=True, jobs=1, cores=2, local_cores=1, components=sizes)
    jobs = [job("train", seconds) for seconds in (100.0, 10.0, 100.0, 10.0)]
    found = estimation.estimate(jobs, profile)
    wait = estimation.SUBMISSION_SECONDS
    assert found.submissions == 2
    assert found.wall_seconds == pytest.approx(estimation.START_SECONDS + 110 + 2 * wait)
    at_once = estimation.estimate(jobs, profile._replace(jobs=5))
    assert at_once.wall_seconds == pytest.approx(estimation.START_SECONDS + 100 + wait)
    one_core = estimation.estimate(jobs, profile._replace(cores=1))
    assert one_core.wall_seconds == pytest.approx(estimation.START_SECONDS + 220 + 2 * wait)
    figures = estimation.estimate([job("figure", 7.0)] * 3, profile)
    of_figures = 3 * (7 + estimation.JOB_SECONDS)
    assert figures.wall_seconds == pytest.approx(estimation.START_SECONDS + of_figures)
    assert figures.submissions == 0
    regression = estimation.estimate([job("baseline", 7.0)] * 3, profile)
    assert regression.submissions == 3


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45.4, "45 s"), (119.4, "119 s"), (120, "2 min"), (7170, "120 min"), (7200, "2.0 h"),
     (12_240, "3.4 h")],
)  # fmt: skip
def test_durations_are_written_in_their_own_unit(seconds, text):
    assert estimation.duration(seconds) == text


def test_a_report_says_what_runs_where():
    jobs = [job("train", 3600.0, 512.3), job("train", 3600.0), job("figure", 2.0)]
    text = estimation.report(jobs, Profile(cores=2))
    assert text.splitlines()[0] == "jobs: 3 (2 train, 1 figure)"
    assert "on 2 cores" in text
    assert "memory: 513 MiB" in text
    assert "disk: 3 MiB" in text
    assert "sbatch" not in text
    cluster = estimation.report(jobs, Profile(cluster=True, jobs=9, gpu=True))
    assert cluster.splitlines()[1] == "sbatch calls: 2"
    assert "without waiting in the queue" in cluster
    assert "core (training would run on GPUs, not calibrated)-hours: 2" in cluster


def test_a_profile_of_gpus_is_known_by_what_it_asks_for():
    cpu, gpu = (
        estimation.read_profile(ROOT / "profiles" / name, 1) for name in ("slurm", "slurm-gpu")
    )
    assert (cpu.gpu, gpu.gpu) == (False, True)


def test_a_profile_may_leave_everything_out(tmp_path):
    (tmp_path / "config.yaml").write_text("local-cores: 5")
    assert estimation.read_profile(tmp_path, 3) == Profile(cores=3, local_cores=5)


# --- running jobs ---------------------------------------------------------------------------------


def state(folder, text, age, expected=50.0, stale=120.0):
    log = folder / "one.log"
    log.write_text(text)
    return estimation._job_state(log, expected, log.stat().st_mtime + age, stale)


def test_a_job_is_slow_once_it_is_silent_for_longer_than_it_should_take(tmp_path):
    begun = "12:00:00 1 of 9 draws, 1 draws/s, 44 s remaining\n"
    later = begun + "12:00:09 3 of 9 draws, 1 draws/s, 33 s remaining\n"
    assert state(tmp_path, begun, 169) == ("running", 44)
    assert state(tmp_path, begun, 171) == ("slow", 44)
    assert state(tmp_path, later, 1) == ("running", 33)
    assert state(tmp_path, "", 1) == ("running", 50)
    huge = begun.replace("44", "9" * 30)
    assert state(tmp_path, huge, 1) == ("running", estimation.LONGEST_REST)
    assert estimation._job_state(tmp_path / "none", 50.0, 0.0, 1.0) == ("waiting", 50)


def test_a_job_that_ended_early_is_all_still_to_do(tmp_path):
    assert state(tmp_path, "Error: diverged", 1) == ("failed", 50)
    assert state(tmp_path, "Error: stopped; the state is saved", 1) == ("waiting", 50)
    done = "12:00:09 9 of 9 draws, 1 draws/s, 0 s remaining\n"
    assert state(tmp_path, done, 1) == ("waiting", 50)


def test_what_remains_is_expected_of_all_that_is_not_done(tmp_path, monkeypatch):
    """Before anything has run, and with a shard of other settings."""
    monkeypatch.chdir(tmp_path)
    quick = config("quick")
    found = estimation.progress(quick, now=0.0)
    for one in found:
        experiment = quick.experiments[one.experiment]
        wanted = quick.training(one.experiment, one.point)
        seconds = [resources.training(wanted, len(d)).seconds for d in experiment.shards()]
        assert one.remaining == pytest.approx(sum(seconds))
        assert one.waiting == len(seconds)
    name, point = found[0].experiment, found[0].point
    label = estimation.range_name(next(iter(quick.experiments[name].shards())))
    shard = Path(estimation.Layout("quick").shard(name, point, label))
    shard.parent.mkdir(parents=True)
    shard.write_bytes(b"damaged")
    again = estimation.progress(quick, now=0.0)[0]
    assert again.outdated == 1
    assert again.remaining == pytest.approx(found[0].remaining)


def test_no_worker_is_left_out_of_the_makespan():
    assert estimation.makespan([2.0, 2.0, 2.0], sys.maxsize) == 2
    assert estimation.makespan([2.0], 0) == 2


@pytest.mark.parametrize("scale", ["paper", "quick"])
def test_the_estimate_knows_which_programs_are_compiled_thoroughly(scale, monkeypatch):
    """The extra seconds of compilation are for experiments whose sampler asks for it."""
    monkeypatch.setattr(resources, "multiplies_bfloat16", lambda: False)
    config = load_config(ROOT / "config.yaml", scale)
    for name, experiment in config.experiments.items():
        for point in experiment.points() if experiment.trains else ():
            asked = config.training(name, point)
            one = asked.model_copy(update={"umbrella": None})
            moves = importlib.import_module(f"grokphase.models.{one.model}_moves")
            settings = kernels.settings(one.kernel)
            gradients = settings.gradients(one.unadjusted_steps / one.steps_in_all)
            per_step = moves.work_per_step(one, one.parameters, gradients)
            work = per_step * one.steps_in_all * len(one.networks.starts())
            short = resources.COMPILATION
            short += resources.COMPILATION_OF_SWEEPS if one.neuron_sweeps else 0
            long = resources.compilation(asked) > 1.01 * short
            assert long == (work >= ensemble.SHORT_WORK), point
