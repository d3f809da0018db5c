"""The same bits from any number of threads, concurrent calls, forks, and the GIL."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import reference as ref
from building import TYPES, convolution, make, pixels, result_array, run_form

import binconv as bc


@pytest.fixture(autouse=True)
def keep_thread_count():
    before = bc.get_num_threads()
    yield
    bc.set_num_threads(before)


def test_thread_settings():
    bc.set_num_threads(3)
    assert bc.get_num_threads() == 3
    for wrong in (0, -1, 2**40):
        with pytest.raises(ValueError, match="thread|n"):
            bc.set_num_threads(wrong)
    for wrong in (1.5, "2", None):
        with pytest.raises(TypeError):
            bc.set_num_threads(wrong)
    assert bc.get_num_threads() == 3


CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def test_threads_are_in_proportion_to_cpus():
    bc.set_num_threads(1024)
    assert bc.get_num_threads() == min(1024, 4 * CPUS)


@pytest.mark.skipif(
    not os.path.isdir("/proc/self/task"), reason="this system does not say what threads there are"
)
def test_threads_that_the_system_could_not_carry_are_not_started():
    """More threads than CPUs take memory and turns, and only wait for each other."""
    program = """
    import os
    import numpy as np
    from building import convolution
    import binconv as bc
    import reference as ref

    def running():
        return len(os.listdir("/proc/self/task"))

    conv = convolution(ref.Layer(np.ones((128, 3, 3, 128), int)))
    source = np.ones((8, 64, 64, 128), np.float32)  # work for more than 200 threads
    bc.set_num_threads(1)
    conv(source)
    before = running()
    bc.set_num_threads(1024)
    conv(source)
    print(running() - before)
    """
    done = run_program(program)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 4 * CPUS


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 5, 7), (3, 33, 34)])
@pytest.mark.parametrize("beta", [False, True])
@pytest.mark.parametrize("type_", TYPES)
def test_same_bits_from_any_number_of_threads(type_, beta, size):
    """Also real sums: how the work is cut must not decide the order of additions."""
    rng = np.random.default_rng(93)
    layer = make(
        94,
        40,
        (3, 3),
        70,
        type=type_,
        beta_scaling=beta,
        scale=rng.normal(size=40).astype(np.float32),
        neuron=ref.Neuron("TANH", 1.0, 0.05),
    )
    source = pixels(rng, (*size, 70), "float32")
    conv = convolution(layer)
    expected = ref.run(layer, source, size[1:], (0, 0))
    for form in ("float32", "float16", "packed"):
        results = []
        for threads in (1, 2, 5):
            bc.set_num_threads(threads)
            results.append(result_array(run_form(conv, source, form)))
        ref.check(results[0], expected)
        for other in results[1:]:
            assert other.tobytes() == results[0].tobytes()


@pytest.mark.parametrize("channels", [7, 8])
@pytest.mark.parametrize("beta", [False, True])
@pytest.mark.parametrize(
    ("kernel", "strides", "dilations", "size"),
    [
        ((3, 3), (1, 1), (1, 1), (2, 40, 130)),  # several columns of tiles
        ((5, 2), (2, 1), (1, 1), (1, 61, 60)),
        ((3, 3), (1, 2), (4, 3), (2, 50, 20)),
        ((2, 3), (3, 1), (2, 1), (1, 60, 70)),  # rows that no tap reads
        ((3, 3), (1, 1), (9, 12), (1, 40, 30)),  # tiles narrow enough for their windows
        ((2, 1), (1, 1), (600, 1), (1, 610, 2)),  # of one pixel
        ((9, 1), (1, 1), (1, 1), (1, 90, 2)),  # more rows than are summed at once
        ((7, 1), (1, 1), (1, 1), (1, 300, 1)),
        ((3, 1), (1, 1), (1, 1), (9, 6, 2)),  # several images in a tile
    ],
)
def test_rows_kept_from_tile_to_tile(kernel, strides, dilations, size, beta, channels):
    """BINARY_WEIGHTS prepares a row once for all tiles that read it."""
    layer = make(
        171,
        20,
        kernel,
        channels,
        groups=2,
        type="BINARY_WEIGHTS",
        strides=strides,
        dilations=dilations,
        beta_scaling=beta,
    )
    source = pixels(np.random.default_rng(172), (*size, 2 * channels), "float32")
    expected = ref.run(layer, source, *ref.padding(layer, size[1:]))
    results = []
    for threads in (1, 2, 3, 7):
        bc.set_num_threads(threads)
        results.append(convolution(layer)(source))
    ref.check(results[0], expected)
    for other in results[1:]:
        assert other.tobytes() == results[0].tobytes()


@pytest.mark.parametrize("subpixel", [1, 2])
@pytest.mark.parametrize("channel", [0, 5, 60])
def test_threads_share_the_words_of_packed_destinations(channel, subpixel):
    """Neither neighbours' bits nor those of other channels in a word may be lost."""
    rng = np.random.default_rng(169)
    layer = make(170, 100 * subpixel**2, (3, 3), 40, subpixel=subpixel)
    conv = convolution(layer)
    conv.destination_feature_channel_offset = channel
    source = pixels(rng, (2, 30, 31, 40), "float32")
    shape = (2, 30 * subpixel, 31 * subpixel, channel + 100 + 50)
    before = rng.integers(0, 2, shape)
    results = []
    for threads in (1, 2, 5, 5, 5):
        bc.set_num_threads(threads)
        bits = bc.PackedImage(ref.pack(before), shape[3])
        conv.encode(source, bits)
        results.append(ref.unpack(np.asarray(bits.words), shape[3]))
    layer_bits = np.s_[..., channel : channel + 100]
    ref.check(results[0][layer_bits], ref.run(layer, source, (30, 31), (0, 0)))
    before[layer_bits] = results[0][layer_bits]
    for bits in results:
        assert np.array_equal(bits, before)


def test_repeated_runs_give_the_same_bits():
    rng = np.random.default_rng(95)
    conv = convolution(make(96, 40, (3, 3), 70, type="BINARY_WEIGHTS", beta_scaling=True))
    source = pixels(rng, (2, 20, 21, 70), "float32")
    bc.set_num_threads(2)
    first = conv(source).tobytes()
    assert all(conv(source).tobytes() == first for _ in range(10))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("type_", TYPES)
def test_concurrent_calls_on_one_object(type_, threads):
    """Many Python threads and several source sizes at once: plans are made while others run."""
    bc.set_num_threads(threads)
    rng = np.random.default_rng(97)
    layer = make(98, 20, (3, 3), 40, type=type_, beta_scaling=True)
    conv = convolution(layer)
    sources = [pixels(rng, (1, 4 + k % 7, 17 - k // 2, 40), "float32") for k in range(30)]
    expected = [convolution(layer)(source).tobytes() for source in sources]
    start = threading.Barrier(8)

    def work(number: int) -> int:
        start.wait()
        order = np.random.default_rng(number).permutation(np.tile(np.arange(30), 4))
        return sum(conv(sources[k]).tobytes() != expected[k] for k in order)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) == 0


def test_concurrent_calls_while_the_object_changes():
    """Settings may come from before or after a change, memory must stay sound."""
    layer = make(99, 20, (3, 3), 40)
    conv = convolution(layer)
    other = make(100, 20, (3, 3), 40)
    source = pixels(np.random.default_rng(101), (1, 9, 9, 40), "float32")
    right = {convolution(each)(source).tobytes() for each in (layer, other)}
    data = [convolution(each).data_source for each in (layer, other)]
    stop = threading.Event()

    def reload() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            conv.reload_weights_and_biases(data[turn % 2])

    changer = threading.Thread(target=reload)
    changer.start()
    try:
        results = [conv(source).tobytes() for _ in range(300)]
    finally:
        stop.set()
        changer.join()
    assert set(results) <= right


def test_the_gil_is_released():
    """While a kernel runs for long, a Python thread goes on counting."""
    conv = convolution(make(102, 128, (3, 3), 256, type="BINARY_WEIGHTS"))
    bc.set_num_threads(1)
    source = np.ones((1, 16, 16, 256), np.float32)
    conv(source)
    began = time.perf_counter()
    conv(source)
    once = time.perf_counter() - began
    images = int(min(400, max(2, 0.4 / once)))  # about 0.4 s in the kernel, 25 MiB at most
    source = np.ones((images, 16, 16, 256), np.float32)
    out = np.empty((images, 16, 16, 128), np.float32)
    ticks: list[float] = []
    done = threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.002)

    ticker = threading.Thread(target=tick)
    ticker.start()
    time.sleep(0.02)
    began = time.perf_counter()
    conv(source, out=out)
    ended = time.perf_counter()
    done.set()
    ticker.join()
    inside = [t for t in ticks if began + 0.01 < t < ended - 0.01]
    assert len(inside) >= 5, f"{len(inside)} ticks in {ended - began:.3f} s"


def run_program(program: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program)],
        cwd=os.path.dirname(__file__),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


PREPARE = '''
import os, signal, sys, threading
import numpy as np
import reference as ref
from building import convolution, pixels
import binconv as bc

rng = np.random.default_rng(103)
bc.set_num_threads(2)
layers = [
    ref.Layer(rng.integers(0, 2, (64, 3, 3, 64)), type=type_)
    for type_ in ("XNOR", "BINARY_WEIGHTS")
]
source = pixels(rng, (2, 40, 40, 64), "float32")
convs = [convolution(layer) for layer in layers]

def in_child(check):
    """The exit code of a child that ends well if `check` holds in it."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # a child that hangs dies of it
        os._exit(0 if check() else 3)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)

def computes(expected):
    same = [conv(source).tobytes() == want for conv, want in zip(convs, expected)]
    fresh = convolution(layers[0])(source).tobytes() == expected[0]
    bc.set_num_threads(2)
    again = convs[1](source).tobytes() == expected[1]
    return all(same) and fresh and again
'''


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_after_threads_ran():
    program = PREPARE + textwrap.dedent(
        """
        expected = [conv(source).tobytes() for conv in convs]
        for _ in range(3):
            assert in_child(lambda: computes(expected)) == 0
            assert convs[0](source).tobytes() == expected[0]  # and the parent goes on
        """
    )
    done = run_program(program)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_while_other_threads_are_in_kernels():
    """Locks that another thread held at the fork must not hang the child."""
    program = PREPARE + textwrap.dedent(
        """
        expected = [conv(source).tobytes() for conv in convs]
        stop = threading.Event()
        sizes = [pixels(rng, (1, 5 + k, 6, 64), "float32") for k in range(20)]

        def busy():
            while not stop.is_set():
                for each in sizes:
                    convs[0](each)

        threads = [threading.Thread(target=busy) for _ in range(2)]
        for thread in threads:
            thread.start()
        codes = []
        for _ in range(5):
            codes.append(in_child(lambda: computes(expected)))
        stop.set()
        for thread in threads:
            thread.join()
        assert codes == [0] * 5, codes
        """
    )
    done = run_program(program, timeout=150)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_while_another_thread_loads(tmp_path):
    """A file that is slow to read must not keep the child of a fork from reading it."""
    path = tmp_path / "layer.safetensors"
    convolution(make(105, 20, (3, 3), 40)).save(path)
    program = PREPARE + textwrap.dedent(
        f"""
        from binconv import serialization

        path = {str(path)!r}
        source = bc.SafetensorsDataSource(path)
        read, reading, go_on = serialization.read_layer, threading.Event(), threading.Event()

        def read_slowly(*arguments):
            reading.set()
            go_on.wait()
            return read(*arguments)

        serialization.read_layer = read_slowly
        thread = threading.Thread(target=source.load)
        thread.start()
        reading.wait()

        def loads():
            serialization.read_layer = read
            return bc.BinaryConvolution(source).to_bytes() == open(path, "rb").read()

        code = in_child(loads)
        go_on.set()
        thread.join()
        assert code == 0, code
        """
    )
    done = run_program(program)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_while_another_thread_finds_the_terms_to_pack_with():
    """Locks of the standard library count as well: functools.cached_property has one until 3.11."""
    program = PREPARE + textwrap.dedent(
        """
        from binconv import _parameters

        def network():
            first = convolution(layers[0])
            terms = np.ones(64, np.float32)
            second = bc.BinaryConvolution(first.data_source, input_bias_terms=terms)
            return bc.Sequential(first, second)

        both_terms, finding, go_on = _parameters.both_terms, threading.Event(), threading.Event()
        parent = threading.get_ident()

        def find_slowly(*arguments):
            if threading.get_ident() != parent:
                finding.set()
                go_on.wait()
            return both_terms(*arguments)

        _parameters.both_terms = find_slowly
        ready = network()
        thread = threading.Thread(target=lambda: (ready(source), network()(source)))
        thread.start()
        finding.wait()
        code = in_child(lambda: network()(source).shape == (2, 40, 40, 64))
        go_on.set()
        thread.join()
        assert code == 0, code
        """
    )
    done = run_program(program)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(
    not os.path.isdir("/proc/self/task") or bc.show_config("dicts")["Build"]["threading"] == "none",
    reason="needs /proc, and a build with threads",
)
def test_the_child_of_a_fork_has_threads_of_its_own():
    program = PREPARE + textwrap.dedent(
        """
        expected = [conv(source).tobytes() for conv in convs]
        def threads():
            return len(os.listdir("/proc/self/task"))

        def starts_one():
            before = threads()  # under an emulator there are some of its own
            return computes(expected) and threads() > before

        code = in_child(starts_one)
        assert code == 0, code
        """
    )
    done = run_program(program)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(
    not os.path.isdir("/proc/self/task") or "asan" in os.environ.get("LD_PRELOAD", ""),
    reason="needs /proc, and memory that nothing but the program takes",
)
def test_threads_that_the_system_refuses_are_done_without():
    """Without memory for a stack there is no thread, and the call goes on."""
    program = PREPARE + textwrap.dedent(
        """
        import mmap
        import resource

        bc.set_num_threads(1)
        expected = [conv(source).tobytes() for conv in convs]
        before = len(os.listdir("/proc/self/task"))
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 4 * 2**20, resource.RLIM_INFINITY))
        try:
            mmap.mmap(-1, 8 * 2**20)
            print("not limited")
        except OSError:
            bc.set_num_threads(2)
            assert [conv(source).tobytes() for conv in convs] == expected
            assert len(os.listdir("/proc/self/task")) == before
        """
    )
    done = run_program(program)
    assert done.returncode == 0, done.stderr
    if "not limited" in done.stdout:
        pytest.skip("this system does not limit memory, as emulators do not")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity")
def test_a_call_does_not_wait_for_a_thread_that_cannot_run():
    """Two threads on one CPU are to take about as long as one; waiting takes a time slice, 4 ms."""
    program = PREPARE + textwrap.dedent(
        """
        import time

        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])

        def typical(threads):
            bc.set_num_threads(threads)
            seconds = []
            for _ in range(300):
                began = time.perf_counter()
                convs[0](source)
                seconds.append(time.perf_counter() - began)
            return np.percentile(seconds, 80)

        one, two = typical(1), typical(2)
        print(one, two)
        assert two < 3 * one + 1e-3, (one, two)
        """
    )
    done = run_program(program)
    assert done.returncode == 0, done.stderr


def test_more_callers_than_the_pool_takes():
    conv = convolution(make(106, 64, (3, 3), 64))
    source = pixels(np.random.default_rng(107), (1, 28, 28, 64), "float32")
    bc.set_num_threads(2)
    expected = conv(source).tobytes()
    start = threading.Barrier(40)

    def work(_: int) -> bool:
        start.wait()
        return all(conv(source).tobytes() == expected for _ in range(20))

    with ThreadPoolExecutor(40) as pool:
        assert all(pool.map(work, range(40)))


def test_threads_come_and_go():
    """Python threads that end take nothing of the package's with them."""
    conv = convolution(make(104, 20, (3, 3), 40))
    source = pixels(np.random.default_rng(105), (1, 30, 30, 40), "float32")
    bc.set_num_threads(2)
    expected = conv(source).tobytes()
    results: list[bool] = []
    for _ in range(30):
        thread = threading.Thread(target=lambda: results.append(conv(source).tobytes() == expected))
        thread.start()
        thread.join()
    assert results == [True] * 30


def test_exit_while_a_daemon_thread_is_in_a_kernel():
    program = PREPARE + textwrap.dedent(
        """
        def busy():
            while True:
                convs[0](source)

        threading.Thread(target=busy, daemon=True).start()
        convs[1](source)
        """
    )
    done = run_program(program)
    assert done.returncode == 0, done.stderr
