"""Compare tables that were just made with the committed ones: `python -m workflow.check MADE COMMITTED`. `make check` runs it.

Every row of MADE/tables/*.csv is one run. Its partner in COMMITTED/tables is the row with the same data set, method, seed and settings; the
committed tables may hold more data sets and seeds. Every difference is printed; one beyond its tolerance fails.
"""
import argparse
import sys
from collections import Counter
from pathlib import Path

from diec.evaluation.metrics import markdown_table
from diec.evaluation.results import read_csv

# column -> (absolute tolerance, why). Runs on other machines and library versions differ by float rounding, which training carries on.
SCORE = (0.02, "float rounding, carried on by training and by k-means' choice among near-equal optima")
TOLERANCES = {
    **dict.fromkeys(("ACC", "NMI", "ARI", "after", "neighbors", "probe", "regret", "stability", "silhouette", "shared neighbors", "share of operations", "ARI at K", "ARI at its own level", "modularity"), SCORE),
    "denoising": (0.01, "a change of the denoising loss by a hundredth of itself"),
    "gap": (0.05, "the deepest valley of S, as a share of its range; 0.05 is also where it begins to count"),
    "t": (150, "S is flat at its top: timesteps this far apart score alike; what is lost by it is in the scores"),
    "evaluations": (4, "follows t"), "epochs": (15, "stops when labels have settled"), "unimodal": (1, "a threshold on the gap"), "clusters": (3, "DDC chooses it"), "K found": (3, "halves of the data are drawn; near-equal levels"), "communities": (3, "the same"), "partial_fit against fit": (0.1, "which points are new decides it"),
}
RELATIVE = {"CHI": 0.05, "score": 0.1, "Davies-Bouldin": 0.05, "frechet": 0.1, "inertia": 0.02, "neighbor_information": 0.02} # these scale with the data
SKIPPED = {"claims": "its words name all data sets of the plan", "encoder": "the clock decides how long it trains", "confused": "single images decide which pairs of classes come first; the shortfall table holds the accuracy"} # tables by the first word of their name
MEASURED = {*TOLERANCES, *RELATIVE}
LOOSE = {"DDC", "N2D", "UMAP + k-means", "spectral", "Gaussian mixture"} # libraries whose layouts jump with float rounding
LOOSE_SCORE = 0.08


def key(row: dict) -> tuple:
    "What says which run a row is of: its words, and the numbers that are settings"
    return tuple(sorted((k, v) for k, v in row.items() if k not in MEASURED))


def tolerance(column: str, value: float, row: dict) -> float:
    if column in RELATIVE: return RELATIVE[column]*max(abs(value), 1.)
    if row.get("method") in LOOSE and column in ("ACC", "NMI", "ARI"): return LOOSE_SCORE
    if TOLERANCES[column] is SCORE and row.get("ACC", 1.) < 0.7: return LOOSE_SCORE # where clusters do not fit the classes, k-means and training end anywhere
    if row.get("criterion") and column == "regret": return 0.05 # follows the timestep that was found
    return TOLERANCES[column][0]


def compare(made: Path, committed: Path) -> tuple:
    "(rows of the table of differences, complaints) for one CSV"
    if not committed.exists(): return [], [f"{committed} does not exist"]
    rows, there, differences, complaints = read_csv(made), read_csv(committed), {}, []
    partners = {key(r): r for r in there}
    for name, found in ((made, rows), (committed, there)): # else a row would stand for another
        for k, n in Counter(map(key, found)).items():
            if n > 1: complaints.append(f"{name}: {n} rows for {dict(k)}; a setting tells them apart that is listed as measured")
    for row in rows:
        if "is not installed" in str(row.get("status")): print(f"not compared: {row['method']} on {row['dataset']}, {row['status']}"); continue
        partner = partners.get(key(row))
        if partner is None: complaints.append(f"{made.name}: no committed row for {dict(key(row))}"); continue
        for column in sorted(MEASURED & (set(row) | set(partner))):
            a, b = row.get(column), partner.get(column)
            if a is None or b is None or isinstance(a, str) or isinstance(b, str):
                if a != b: complaints.append(f"{made.name}: {column} is {a!r}, committed {b!r}, for {dict(key(row))}")
                continue
            allowed = tolerance(column, b, row)
            differences.setdefault(column, []).append((abs(a - b), allowed))
            if not abs(a - b) <= allowed: complaints.append(f"{made.name}: {column} is {a:.6g}, committed {b:.6g}, allowed ± {allowed:.3g}, for {dict(key(row))}")
    return [{"table": made.stem, "figure": c, "compared": len(d), "equal": sum(x == 0 for x, _ in d), "largest difference": f"{max(x for x, _ in d):.3g}", "allowed": f"{max(t for _, t in d):.3g}"}
            for c, d in sorted(differences.items())], complaints


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("made", type=Path, help="folder with tables/, just made")
    parser.add_argument("committed", type=Path, help="folder with tables/, to compare with")
    args = parser.parse_args(argv)
    tables = sorted(p for p in (args.made/"tables").glob("*.csv") if p.stem.partition("-")[0] not in SKIPPED)
    if not tables: parser.error(f"made must be a folder with tables/*.csv, got {args.made}")
    rows, complaints = [], []
    for path in tables:
        found = compare(path, args.committed/"tables"/path.name)
        rows += found[0]; complaints += found[1]
    print(markdown_table(rows) if rows else "nothing to compare")
    for c in complaints: print("OUT OF TOLERANCE ", c)
    n = sum(r["compared"] for r in rows)
    print(f"\n{n} figures of {len(tables)} tables compared, {sum(r['equal'] for r in rows)} of them equal to the last digit; {len(complaints)} complaint(s). Left out: {'; '.join(f'{k} ({why})' for k, why in SKIPPED.items())}.")
    sys.exit(1 if complaints or not n else 0)


if __name__ == "__main__":
    main()
