"""Ensembles of networks: streamed observables, divergence checks, exact resume."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from grokphase.errors import DivergenceError
from grokphase.sampling.kernels import Kernel, Position, State
from grokphase.sampling.programs import Programs
from grokphase.sampling.random_keys import fold_in_name
from grokphase.specifications.training import EXPECTED_EVERY, unadjusted_draws
from grokphase.tables.shards import FINE_BINS, FINE_LIMIT, FINE_WIDTH


class Schedule(NamedTuple):
    """`burn_in` draws are discarded, then `draws` are recorded; a draw is `thin` kernel steps.

    In the first `unadjusted` draws every proposal is accepted.

    Then come `windows` of a changed posterior, if there are any, each of which discards
    `window_burn_in` draws and records the profiles of `window_draws`.

    A block is one call of the compiled program, for `block` draws at most and for one where its
    profile is wanted; progress is reported, divergence is detected and checkpoints are written
    between blocks.
    """

    burn_in: int
    draws: int
    thin: int
    block: int
    windows: int = 0
    window_burn_in: int = 0
    window_draws: int = 0

    @property
    def per_window(self) -> int:
        """Draws of one window, those discarded included."""
        return self.window_burn_in + self.window_draws

    @property
    def total(self) -> int:
        """Draws of a network in all, those discarded included."""
        return self.burn_in + self.draws + self.windows * self.per_window

    @property
    def unadjusted(self) -> int:
        """Draws of burn-in in which every proposal is accepted."""
        return unadjusted_draws(self.burn_in)

    def part(self, done: int) -> "Part":
        """The part to which draw number `done` belongs."""
        outside = done - self.burn_in - self.draws
        if outside < 0:
            ends = (self.unadjusted, self.burn_in, self.burn_in + self.draws)
            end = next(end for end in ends if done < end)
            return Part(0, False, end, done >= self.burn_in, done < self.unadjusted)
        window, inside = divmod(outside, self.per_window)
        burns_in = inside < self.window_burn_in
        end = done - inside + (self.window_burn_in if burns_in else self.per_window)
        return Part(window + 1, inside == 0, end, not burns_in, False)


class Part(NamedTuple):
    """Draws that are treated alike.

    window : 0 for the posterior itself.    begins : whether a window begins with this draw.
    end : number of the first draw of the next part.
    recorded : whether draws are recorded.  accept_all : whether every proposal is accepted.
    """

    window: int
    begins: bool
    end: int
    recorded: bool
    accept_all: bool


class Counting(NamedTuple):
    """How the order parameters of a network are counted: tally(values) -> integers [bins]."""

    bins: int
    tally: Callable[[jax.Array], jax.Array]


class Profiles(NamedTuple):
    """Conditional densities of an order parameter, and windows far in its tail.

    length : of a profile;  compute : (key, position, data) -> profile [length], compiled.
    in_window : (data, window) -> the data of the posterior of window 1, 2, ...
    enter : (positions [datasets, networks], data [datasets]) -> those at which networks are placed
        when a window of those data begins.
    noise : (profiles of one network by different keys [compared, length]) -> nats by which they
        differ, of which `largest_noise` is allowed.
    """

    length: int
    compute: Callable[[jax.Array, Position, Any], jax.Array]
    in_window: Callable[[Any, int], Any]
    enter: Callable[[Position, Any], Position]
    noise: Callable[[NDArray[np.floating]], float]
    largest_noise: float
    compared: int


class Ensemble(NamedTuple):
    """The networks of some datasets after `done` draws, burn-in included.

    state : State with leading axes [datasets, networks].
    observables : [datasets, networks, recorded draws, k].
    acceptance : [datasets, networks, 2], summed over recorded draws: Metropolis acceptance
        probability, and share of the moves of sweeps that were accepted (nan without sweeps).
    counts : [datasets, networks, bins] of the order parameters, summed over recorded draws.
    expected_counts : the same as expected from conditional densities, of one in EXPECTED_EVERY
        draws; [datasets, networks, 0] where there are none.
    profiles : [datasets, networks, recorded draws, length], those of the windows at the end;
        [datasets, networks, 0, 0] where there are none.
    window_acceptance : [datasets, networks], Metropolis acceptance probability summed over the
        recorded draws of the window under way.
    """

    done: int
    state: State
    observables: NDArray[np.float32]
    acceptance: NDArray[np.float64]
    counts: NDArray[np.int64]
    expected_counts: NDArray[np.float64]
    profiles: NDArray[np.float32]
    window_acceptance: NDArray[np.float64]


def count_overlaps(overlaps: jax.Array) -> jax.Array:
    """Counts [FINE_BINS + 2] of overlaps q [N] per fine bin; the ends hold |q| beyond the limit."""
    index = jnp.floor((overlaps + FINE_LIMIT) / FINE_WIDTH).astype(jnp.int32) + 1
    return jnp.zeros(FINE_BINS + 2, jnp.int32).at[jnp.clip(index, 0, FINE_BINS + 1)].add(1)


OVERLAPS = Counting(FINE_BINS + 2, count_overlaps)


def block_size(work_per_draw: float, work_per_block: float = 2e10) -> int:
    """Draws per block: about `work_per_block` multiply-adds, from one draw to a thousand."""
    return int(min(1000, max(1, work_per_block // work_per_draw)))


def mapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Map a function of one network, or of one dataset, over the leading axis of its arguments.

    On an accelerator this is vmap. On a CPU the networks follow one another inside the compiled
    program: at d=150, N=700, n=3000 that is twice as fast as vmap, whose intermediate arrays leave
    the cache, and the arithmetic of a network cannot depend on which others share its shard.
    """
    if jax.default_backend() == "cpu":
        return lambda *arguments: jax.lax.map(lambda one: function(*one), arguments)
    return jax.vmap(function)


SHORT_WORK = 2e10
"""Multiply-adds, half a second to three seconds of one core, below which the networks of a dataset
take less time than the compilation of the program that moves them."""


def compiler_options(work: float) -> dict[str, Any]:
    """Options of XLA for the programs of a sampler with so many multiply-adds for a dataset.

    On a CPU LLVM's lowest level of optimisation beside none, since XLA's own code is vectorised
    already: a draw takes the same time within 1 % (teacher-student at d=150, N=700, n=3000; modes
    of modular addition at P=17, N=125), and programs compile in 7.6 s for 8.6 and 4.9 s for 6.7.
    Without any, draws take four times as long.

    XLA's newer emitters of elementwise loops make sweeps over neurons faster by a tenth (4.2 for
    3.9 draws/s in teacher-student) and other programs not at all, but take long to compile: on one
    thread 4.5 s for 2.9, of a sweep over modes alone. They are for work that is not short. The
    choice depends on nothing but the work, for it changes the last bits of a result.
    """
    if jax.default_backend() != "cpu":
        return {}
    return {
        "xla_backend_optimization_level": 1,
        "xla_cpu_use_fusion_emitters": work >= SHORT_WORK,
    }


def _beside(key: jax.Array, purpose: str, step: Any) -> jax.Array:
    """Key of a network for what happens beside a step, which itself uses fold_in(key, step)."""
    return jax.random.fold_in(fold_in_name(key, purpose), step)


class Sampler:
    """Runs ensembles of one shape; compiled once and used for all datasets, one or more at a time.

    Keys, positions and states have leading axes [datasets, networks], the data [datasets].

    make_kernel : (data, accept_all) -> Kernel; `accept_all` is a traced boolean, so that one
        compiled program serves burn-in and draws.
    observe : (data, state) -> (observables [k], order parameters) of one network.
    counting : the histogram of the order parameters; by default of the overlaps [N].
    expected_counts : (position, data) -> what `counting` is expected to count; None for nothing.
    profiles : what is computed of every recorded draw beside; the schedule's windows need it. It is
        a program of its own, so that networks with and without share the one that moves them.
    with_exact_gradient : (data, state) -> the state as it is observed in recorded draws of the
        posterior itself, for observables that a gradient of approximate forces would bias.
    work : multiply-adds of the steps of the networks of a dataset, which decide how much time is
        given to compilation.
    settle : (key, position, data) -> the position at which a network, or a window, begins that is
        placed at `position`, at the noise at which it begins; None: there.
    programs : where compiled programs are kept, of an identity that decides all of the above;
        None: in JAX's own cache.
    """

    def __init__(
        self,
        make_kernel: Callable[[Any, jax.Array], Kernel],
        observe: Callable[[Any, State], tuple[jax.Array, jax.Array]],
        observable_count: int,
        schedule: Schedule,
        counting: Counting = OVERLAPS,
        expected_counts: Callable[[Position, Any], jax.Array] | None = None,
        profiles: Profiles | None = None,
        work: float = math.inf,
        with_exact_gradient: Callable[[Any, State], State] | None = None,
        settle: Callable[[jax.Array, Position, Any], Position] | None = None,
        programs: Programs | None = None,
    ) -> None:
        self.schedule = schedule
        self.bins = counting.bins
        self.expected_bins = counting.bins if expected_counts else 0
        self.profiles = profiles
        self.profile_length = profiles.length if profiles else 0
        self.observable_count = observable_count

        def initial(positions: Position, data: Any) -> State:
            return mapped(make_kernel(data, jnp.asarray(True)).init)(positions)

        def begin_dataset(
            keys: jax.Array | None,
            positions: Position,
            data: Any,
            first_step: jax.Array,
            noise_ratios: jax.Array | None,
        ) -> State:
            def settled(key: jax.Array, position: Position, ratio: Any = None) -> Position:
                assert settle is not None
                here = data if ratio is None else data._replace(noise=data.noise * ratio)
                return settle(_beside(key, "begin", first_step), position, here)

            if settle:
                annealed = () if noise_ratios is None else (noise_ratios,)
                positions = mapped(settled)(keys, positions, *annealed)
            return initial(positions, data)

        def begin(keys: jax.Array | None, positions: Position, data: Any, *how: Any) -> State:
            return mapped(lambda *dataset: begin_dataset(*dataset, *how))(keys, positions, data)

        def advance_dataset(
            keys: jax.Array,
            state: State,
            data: Any,
            first: jax.Array,
            count: jax.Array,
            noise_ratios: jax.Array | None,
            accept_all: jax.Array,
            counted: jax.Array,
        ) -> tuple[State, tuple[jax.Array, ...]]:
            """Draws first ... first + count - 1; rows of the results beyond `count` stay zero."""
            fixed = make_kernel(data, accept_all)

            def one_network(
                key: jax.Array, state: State, ratio: jax.Array | None = None
            ) -> tuple[State, tuple[jax.Array, ...]]:
                def one_step(state: State, number: jax.Array) -> tuple[State, jax.Array]:
                    kernel = fixed
                    if ratio is not None:
                        left = 1 - (number + 1) / max(1, schedule.burn_in * schedule.thin)
                        noise = data.noise * ratio ** jnp.maximum(left, 0)
                        kernel = make_kernel(data._replace(noise=noise), accept_all)
                        same = (ratio == 1) | (left < 0)
                        state = jax.lax.cond(
                            same, lambda s: s, lambda s: kernel.init(s.position), state
                        )
                    state, info = kernel.step(jax.random.fold_in(key, number), state)
                    return state, jnp.stack([info.acceptance, info.sweep_acceptance])

                def one_draw(row: jax.Array, carry: Any) -> Any:
                    state, (observables, acceptance, counts, expected) = carry
                    numbers = (first + row) * schedule.thin + jnp.arange(schedule.thin)
                    state, accepted = jax.lax.scan(one_step, state, numbers)
                    if expected_counts:
                        left = schedule.burn_in + schedule.draws - (first + row)
                        expected = expected + jax.lax.cond(
                            counted & ((left - 1) % EXPECTED_EVERY == 0),
                            lambda: expected_counts(state.position, data),
                            lambda: jnp.zeros(counting.bins),
                        )
                    seen = state
                    if with_exact_gradient:
                        seen = jax.lax.cond(
                            counted, lambda: with_exact_gradient(data, state), lambda: state
                        )
                    observed, values = observe(data, seen)
                    return state, (
                        observables.at[row].set(observed),
                        acceptance + accepted.mean(axis=0),
                        counts + counting.tally(values),
                        expected,
                    )

                empty = (
                    jnp.zeros((schedule.block, observable_count)),
                    jnp.zeros(2),
                    jnp.zeros(counting.bins, jnp.int32),
                    jnp.zeros(self.expected_bins),
                )
                return jax.lax.fori_loop(0, count, one_draw, (state, empty))

            annealed = () if noise_ratios is None else (noise_ratios,)
            return mapped(one_network)(keys, state, *annealed)

        def advance(keys: jax.Array, state: State, data: Any, *how: Any) -> Any:
            return mapped(lambda *dataset: advance_dataset(*dataset, *how))(keys, state, data)

        def profile(
            keys: jax.Array, positions: Position, data: Any, number: jax.Array
        ) -> jax.Array:
            def of_dataset(keys: jax.Array, positions: Position, data: Any) -> jax.Array:
                def of_network(key: jax.Array, position: Position) -> jax.Array:
                    assert profiles is not None
                    return profiles.compute(_beside(key, "profile", number), position, data)

                return mapped(of_network)(keys, positions)

            return mapped(of_dataset)(keys, positions, data)

        options, kept = compiler_options(work), (programs or Programs()).kept
        self._begin = kept("begin", jax.jit(begin, compiler_options=options))
        self._profile = kept("profile", jax.jit(profile, compiler_options=options))
        self._advance = kept(
            "advance", jax.jit(advance, donate_argnums=1, compiler_options=options)
        )

    def start(
        self,
        positions: Position,
        data: Any,
        keys: jax.Array | None = None,
        noise_ratios: jax.Array | None = None,
    ) -> Ensemble:
        """An ensemble placed at some positions (pytree, leading axes [datasets, networks]).

        keys [datasets, networks], other ones than in `run`, noise_ratios [networks] : for a sampler
        that settles.
        """
        networks = jax.tree.leaves(positions)[0].shape[:2]
        return Ensemble(
            0,
            self._begin(keys, positions, data, 0, noise_ratios),
            np.zeros((*networks, 0, self.observable_count), np.float32),
            np.zeros((*networks, 2)),
            np.zeros((*networks, self.bins), np.int64),
            np.zeros((*networks, self.expected_bins)),
            np.zeros((*networks, 0, self.profile_length), np.float32),
            np.zeros(networks),
        )

    def advance(
        self,
        keys: jax.Array,
        state: State,
        first: int,
        count: int,
        data: Any,
        accept_all: bool = False,
    ) -> tuple[State, tuple[jax.Array, ...]]:
        """`count` recorded draws, the first of number `first`, from a state, which is consumed.

        Returns the new state and observables [datasets, networks, block, k], of which the rows
        beyond `count` are zero, then, summed over the draws, acceptance [datasets, networks, 2],
        counts and expected counts [datasets, networks, bins].
        """
        return self._advance(keys, state, data, first, count, None, accept_all, True)

    def noise_of_profiles(self, state: State, data: Any) -> float:
        """Nats by which profiles of the last network of the first dataset differ."""
        assert self.profiles is not None
        shape = jax.tree.leaves(state.position)[0].shape[:2]
        positions = jax.tree.map(
            lambda x: jax.device_put(np.broadcast_to(np.asarray(x)[:, -1:], x.shape)),
            state.position,
        )
        keys = jax.random.split(jax.random.key(0), shape)
        calls = range(-(-self.profiles.compared // shape[1]))
        found = [np.asarray(self._profile(keys, positions, data, call))[0] for call in calls]
        return self.profiles.noise(np.concatenate(found)[: self.profiles.compared])

    def run(
        self,
        keys: jax.Array,
        ensemble: Ensemble,
        data: Any,
        after_block: Callable[[Ensemble], None],
        noise_ratios: jax.Array | None = None,
    ) -> Ensemble:
        """Advance to the end of the schedule, calling `after_block` after every block.

        keys [datasets, networks] : step s of a network uses fold_in(its key, s).
        noise_ratios [networks] : noise at the beginning of burn-in over that at its end, which is
            the field `noise` of the data; it moves geometrically. None: the noise is constant.
        Raises DivergenceError as soon as an observable is not finite, and if a network accepted no
        proposal in the recorded draws after burn-in or in those of a window.
        """
        while ensemble.done < self.schedule.total:
            part = self.schedule.part(ensemble.done)
            # Draws whose profiles are wanted are made one at a time.
            single = part.recorded and self.profiles is not None
            count = min(1 if single else self.schedule.block, part.end - ensemble.done)
            state, here = ensemble.state, data
            if part.window:
                assert self.profiles is not None
                here = self.profiles.in_window(data, part.window)
            if part.begins:
                assert self.profiles is not None
                positions = jax.device_put(self.profiles.enter(state.position, here))
                step = ensemble.done * self.schedule.thin
                constant = None if noise_ratios is None else jnp.ones_like(noise_ratios)
                state = self._begin(keys, positions, here, step, constant)
                ensemble = ensemble._replace(window_acceptance=np.zeros(keys.shape))
            state, measured = self._advance(
                keys,
                state,
                here,
                ensemble.done,
                count,
                noise_ratios,
                part.accept_all,
                part.recorded and not part.window,
            )
            observables, acceptance, counts, expected = map(np.asarray, measured)
            observed = observables[:, :, :count]
            if not np.isfinite(observed).all():
                draw = ensemble.done + int(np.isfinite(observed).all(axis=(0, 1, 3)).argmin())
                raise DivergenceError(
                    f"the dynamics diverged between steps {draw * self.schedule.thin} and "
                    f"{(draw + 1) * self.schedule.thin}"
                )
            ensemble = ensemble._replace(done=ensemble.done + count, state=state)
            if part.recorded and part.window:
                accepted = ensemble.window_acceptance + acceptance[..., 0]
                ensemble = ensemble._replace(window_acceptance=accepted)
                if ensemble.done == part.end and not (accepted > 0).all():
                    raise DivergenceError(f"no proposal was accepted in window {part.window}")
            if single:
                number = ensemble.done * self.schedule.thin - 1
                profiles = np.asarray(self._profile(keys, state.position, here, number))
                if not np.isfinite(profiles).all():
                    raise DivergenceError("a conditional density of the overlap is not finite")
                ensemble = ensemble._replace(
                    profiles=np.concatenate([ensemble.profiles, profiles[:, :, None]], axis=2)
                )
            if part.recorded and not part.window:
                ensemble = ensemble._replace(
                    observables=np.concatenate([ensemble.observables, observed], axis=2),
                    acceptance=ensemble.acceptance + acceptance,
                    counts=ensemble.counts + counts,
                    expected_counts=ensemble.expected_counts + expected,
                )
            after_block(ensemble)
        if not (ensemble.acceptance[..., 0] > 0).all():
            raise DivergenceError("no proposal was accepted after burn-in")
        return ensemble
