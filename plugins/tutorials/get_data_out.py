"""Get data out: from a recording to a table of blinks, and back into the viewer.

``python get_data_out.py RECORDING OUTPUT`` does all of get_data_out.md, which explains it step by step; with
``--viewer URL`` also what it says of a viewer that runs. Needs ``pip install 'gazed[rerun]' pandas matplotlib``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import rerun as rr
import rerun.blueprint as rrb
from rerun.catalog import CatalogClient
from rerun.chunk import RrdReader
from rerun.experimental import ViewerClient

from gazed_plugins.export.run import export_recording

TIMELINE = "pupil_time"
SIGNAL = "/pupil/0/2d/confidence"
COMPONENT = "Scalars:scalars"
COLUMN = f"{SIGNAL}:{COMPONENT}"
CLOSED_BELOW = 0.2
SMOOTH_OVER = 9
LONGEST_GAP = pd.Timedelta("100ms")


def load_signal(path: Path) -> pd.Series:
    """Return the signal in a file; its index is Pupil time."""
    reader = RrdReader(path)
    (recording,) = reader.recordings()
    chunks = reader.stream(store=recording).filter(content=SIGNAL).collect()
    table = chunks.reader(index=TIMELINE, contents=SIGNAL).select(TIMELINE, COLUMN).to_pandas()
    return flatten(table)


def flatten(table: pd.DataFrame) -> pd.Series:
    """Return one number a row; NaN where a row has none."""
    values = table[COLUMN].explode().astype(float)
    return pd.Series(values.to_numpy(), index=table[TIMELINE], name="confidence").sort_index()


def load_from_viewer(url: str) -> pd.Series:
    """Return the signal of the file that a viewer has open."""
    catalog = viewer_catalog(url)
    reader = catalog.datasets()[0].filter_contents([SIGNAL]).reader(index=TIMELINE)
    return flatten(reader.select(TIMELINE, COLUMN).to_pandas())


def viewer_catalog(url: str) -> CatalogClient:
    """Return the catalog of the files that a viewer has open; keep it as long as you read from it."""
    address = ViewerClient.connect(url).get_state().catalog_url
    if address is None:
        raise SystemExit(f"the viewer at {url} has no file open")
    return CatalogClient(address)


def is_closed(confidence: pd.Series) -> pd.Series:
    """Return whether the eye is closed: true, false, or missing where nothing is known."""
    smooth = confidence.rolling(SMOOTH_OVER, center=True, min_periods=1).median()
    return (smooth < CLOSED_BELOW).astype("boolean").where(confidence.notna())


def find_changes(closed: pd.Series) -> pd.Series:
    """Return the state at the beginning and at each change; what is not known is no change."""
    known = closed.dropna()
    return known[(known != known.shift()).fillna(True)]


def find_blinks(closed: pd.Series) -> pd.DataFrame:
    """Return when each blink starts and stops; a blink that began before the recording has no start."""
    changes = find_changes(closed)
    starts = changes.index[changes]
    stops = pd.to_timedelta([changes.index[changes.index > start].min() for start in starts])
    blinks = pd.DataFrame({"start": starts, "stop": stops})
    if len(changes) and changes.iloc[0]:
        blinks.loc[0, "start"] = pd.NaT
    return blinks.assign(duration=blinks["stop"] - blinks["start"])


def split_at_gaps(signal: pd.Series) -> list[pd.Series]:
    """Return the parts of a signal that are without a gap: where it is known, and often enough."""
    part = signal.isna().cumsum() + (signal.index.to_series().diff() > LONGEST_GAP).cumsum()
    known = signal.notna()
    return [each for _, each in signal[known].groupby(part[known])]


def plot(confidence: pd.Series, closed: pd.Series, blinks: pd.DataFrame, path: Path) -> None:
    """Draw the signal, the state and its changes."""
    from matplotlib.figure import Figure

    begin = confidence.index[0]

    def seconds(times: pd.Series | pd.Index) -> np.ndarray:
        return np.asarray((times - begin) / pd.Timedelta("1s"), float)

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for number, part in enumerate(split_at_gaps(confidence)):
        axes.plot(seconds(part.index), part, color="tab:blue", lw=0.8, label=None if number else "confidence")
    for number, part in enumerate(split_at_gaps(closed)):
        label = None if number else "eye closed"
        axes.fill_between(
            seconds(part.index), 0, part.astype(float), step="post", color="tab:orange", alpha=0.35, lw=0, label=label
        )
    axes.axhline(CLOSED_BELOW, color="gray", ls="--", lw=0.8, label="threshold")
    for times, mark, color, label in (
        (blinks["start"].dropna(), "v", "tab:red", "blink starts"),
        (blinks["stop"].dropna(), "^", "tab:green", "blink stops"),
    ):
        axes.plot(seconds(times), np.full(len(times), CLOSED_BELOW), mark, color=color, ms=7, label=label)
    axes.set(xlabel="seconds since the first pupil", ylabel="confidence of eye 0", ylim=(-0.03, 1.05))
    axes.margins(x=0.01)
    figure.legend(loc="outside upper center", ncols=5, frameon=False)
    figure.savefig(path, dpi=100, metadata={"Software": None})


def at(times: pd.Series | pd.Index) -> list[rr.TimeColumn]:
    """Return where rows are on the timeline."""
    return [rr.TimeColumn(TIMELINE, duration=times.to_numpy("timedelta64[ns]"))]


def log_analysis(recording: rr.RecordingStream, closed: pd.Series) -> None:
    """Log what was found: a state, a text for each change, a curve, and a red dot over the eye while it is closed."""
    changes = find_changes(closed)
    states = ["closed" if each else "open" for each in changes]
    recording.send_columns("/analysis/eye", at(changes.index), rr.StateChange.columns(state=states))
    colors = rr.StateConfiguration(values=["open", "closed"], colors=[[70, 110, 90], [220, 60, 60]])
    recording.log("/analysis/eye", colors, static=True)
    texts = rr.TextLog.columns(text=[f"eye {state}" for state in states], level=["INFO"] * len(states))
    recording.send_columns("/analysis/log", at(changes.index), texts)
    known = closed.dropna()
    recording.send_columns("/analysis/closed", at(known.index), rr.Scalars.columns(scalars=known.astype(float)))
    dots = rr.Points2D.columns(positions=[[20, 20]] * int(changes.sum())).partition(changes.astype(int))
    recording.send_columns("/eye0/closed", at(changes.index), dots)
    recording.log("/eye0/closed", rr.Points2D.from_fields(colors=[255, 0, 0], radii=12), static=True)


def same_recording(path: Path) -> rr.RecordingStream:
    """Return a stream into the recording that a file holds: what is logged into it belongs there."""
    (recording,) = RrdReader(path).recordings()
    return rr.RecordingStream(recording.application_id, recording_id=recording.recording_id, send_properties=False)


def write_layer(base: Path, closed: pd.Series, layer: Path) -> None:
    """Write what was found into a file of its own; the recording stays as it is."""
    recording = same_recording(base)
    recording.save(layer)
    log_analysis(recording, closed)
    recording.disconnect()


def merge(base: Path, layer: Path, merged: Path) -> None:
    """Write a recording and what was found in it into one file, with views of both."""
    recording = same_recording(base)
    recording.save(merged, default_blueprint=views())
    send_file(recording, base)
    send_file(recording, layer)
    recording.disconnect()


def send_file(recording: rr.RecordingStream, path: Path) -> None:
    """Send all that a file holds of a recording."""
    reader = RrdReader(path)
    (stored,) = reader.recordings()
    recording.send_chunks(reader.stream(store=stored))


def views() -> rrb.Blueprint:
    """Return what the viewer shows: the eye, both curves, states, changes and a table."""
    curves = [SIGNAL, "/analysis/closed"]
    columns = [rrb.components.ComponentColumnSelector(entity_path=curve, component=COMPONENT) for curve in curves]
    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Vertical(
                rrb.Spatial2DView(origin="/eye0", name="eye 0"), rrb.Spatial2DView(origin="/world", name="world")
            ),
            rrb.Vertical(
                rrb.TimeSeriesView(origin="/", contents=curves, name="confidence and state"),
                rrb.StateTimelineView(origin="/", contents=["/analysis/eye", "/blinks"], name="states"),
                rrb.Horizontal(
                    rrb.TextLogView(origin="/analysis/log", name="changes"),
                    rrb.DataframeView(
                        origin="/",
                        contents=curves,
                        name="table",
                        query=rrb.archetypes.DataframeQuery(timeline=TIMELINE, select=[TIMELINE, *columns]),
                    ),
                ),
                row_shares=[3, 2, 3],
            ),
            column_shares=[2, 3],
        ),
        rrb.TimePanel(timeline=TIMELINE, state="collapsed"),
        collapse_panels=True,
    )


def show_live(url: str, base: Path, closed: pd.Series) -> None:
    """Send a recording to a viewer that runs, and log into it what was found."""
    recording = same_recording(base)
    recording.connect_grpc(url, default_blueprint=views())
    send_file(recording, base)
    log_analysis(recording, closed)
    recording.flush(timeout_sec=60)
    recording.disconnect()


def add_to_open_file(url: str, layer: Path) -> None:
    """Add what was found to the file that a viewer has open; the file stays as it is."""
    catalog = viewer_catalog(url)
    catalog.datasets()[0].register([layer.absolute().as_uri()], layer_name="analysis").wait()


def main() -> None:
    """Do all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording", type=Path, help="the folder of a recording, with the pupils of eye 0")
    parser.add_argument("output", type=Path, help="a folder for what is made")
    parser.add_argument("--viewer", metavar="URL", help="a viewer that runs: rerun+http://127.0.0.1:9876/proxy")
    told = parser.parse_args()

    rr.set_strict_mode(True)
    base = Path(export_recording(told.recording, "rerun", told.output, resume=True).path)
    confidence = load_signal(base)
    closed = is_closed(confidence)
    blinks = find_blinks(closed)
    print(blinks.to_string())

    plot(confidence, closed, blinks, told.output / "plot.png")
    write_layer(base, closed, told.output / "analysis.rrd")
    merge(base, told.output / "analysis.rrd", told.output / "merged.rrd")
    if told.viewer:
        show_live(told.viewer, base, closed)


if __name__ == "__main__":
    main()
