"""Compare new tables with the committed ones: `python -m workflow.check MADE COMMITTED`. `make check` runs it.

Every row of MADE/tables/*.csv is one run. Its partner in COMMITTED/tables is the row with the same data set, method,
seed and settings; the committed tables may hold more data sets and seeds. A difference beyond its tolerance fails.
nbs/experiments/experiments.yaml says which columns are measured, their tolerances, and which tables are left out.
"""
import argparse
import sys
from pathlib import Path

import pandas as pd

from diec.evaluation.metrics import markdown_table
from workflow.registry import load

REGISTRY = load()
MEASURED = REGISTRY.measured | {c: limit for e in REGISTRY.experiments.values() for c, limit in e.measured.items()}
SCORE = 0.02 # machines and library versions differ by float rounding, which training and k-means amplify
LOOSE_SCORE = 0.08 # where clusters do not fit the classes (accuracy below 0.7), and for the methods below
# their layouts jump with float rounding
LOOSE_METHODS = {"DDC", "N2D", "UMAP + k-means", "UMAP + mixture", "spectral", "Gaussian mixture"}
REGRET = 0.05 # follows the timestep that the search finds


def not_compared(table: str) -> str | None:
    "Why a table is not compared; None if it is"
    found = REGISTRY.find(f"tables/{table}")
    return found and found[1].not_compared


def numbers(texts: pd.Series) -> pd.Series:
    return pd.to_numeric(texts, errors="coerce")


def tolerance(column: str, committed: pd.Series, rows: pd.DataFrame) -> pd.Series:
    "The largest difference that is allowed in each row"
    limit = MEASURED[column]
    if str(limit).endswith("%"): return float(limit[:-1])/100*committed.abs().clip(lower=1)
    if limit != "score": return pd.Series(float(limit), rows.index)
    found = pd.Series(SCORE, rows.index)
    if column == "regret" and "criterion" in rows: found[rows["criterion"] != ""] = REGRET
    if "ACC" in rows: found[numbers(rows["ACC"]) < 0.7] = LOOSE_SCORE
    if "method" in rows and column in ("ACC", "NMI", "ARI"): found[rows["method"].isin(LOOSE_METHODS)] = LOOSE_SCORE
    return found


def compare(made: Path, committed: Path) -> tuple:
    "(rows of the table of differences, complaints) for one CSV"
    if not committed.exists(): return [], [f"{committed} does not exist"]
    new, old = (pd.read_csv(path, dtype=str, keep_default_na=False) for path in (made, committed))
    columns = list(dict.fromkeys([*new, *old]))
    new, old = (t.reindex(columns=columns, fill_value="") for t in (new, old))
    keys = [c for c in columns if c not in MEASURED]
    run = lambda row: {k: row[k] for k in keys if row[k] != ""}
    complaints = [f"{path}: {len(rows)} rows for {run(rows.iloc[0])}; a setting is missing or listed as measured"
                  for path, t in ((made, new), (committed, old))
                  for _, rows in t.groupby(keys, sort=False) if len(rows) > 1]
    old = old.drop_duplicates(keys, keep="last")
    both = new.merge(old, on=keys, how="left", suffixes=("", " committed"), indicator="found")
    if "status" in both:
        skipped = both["status"].str.contains("is not installed")
        for _, row in both[skipped].iterrows():
            print(f"not compared: {row['method']} on {row['dataset']}, {row['status']}")
        both = both[~skipped]
    alone = both[both["found"] == "left_only"]
    complaints += [f"{made.name}: no committed row for {run(row)}" for _, row in alone.iterrows()]
    both, summary = both[both["found"] == "both"], []
    for column in sorted(set(columns) - set(keys)):
        texts, partners = both[column], both[f"{column} committed"]
        value, partner = numbers(texts), numbers(partners)
        numeric, difference = value.notna() & partner.notna(), (value - partner).abs()
        allowed = tolerance(column, partner, both)
        wrong = both[numeric & ~(difference <= allowed) | ~numeric & (texts != partners)]
        complaints += [f"{made.name}: {column} is {row[column]}, committed {row[f'{column} committed']}, "
                       f"allowed ± {allowed[i]:.3g}, for {run(row)}" for i, row in wrong.iterrows()]
        if numeric.any():
            d = difference[numeric]
            summary.append({"table": made.stem, "figure": column, "compared": len(d), "equal": int((d == 0).sum()),
                            "largest difference": f"{d.max():.3g}", "allowed": f"{allowed[numeric].max():.3g}"})
    return summary, complaints


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("made", type=Path, help="folder whose tables/ was just made")
    parser.add_argument("committed", type=Path, help="folder whose tables/ to compare with")
    args = parser.parse_args(argv)
    found = sorted((args.made/"tables").glob("*.csv"))
    tables, left_out = [p for p in found if not not_compared(p.stem)], {}
    for p in found: left_out.setdefault(not_compared(p.stem), []).append(p.stem)
    if not tables: parser.error(f"made must be a folder with tables/*.csv, got {args.made}")
    outcomes = [compare(path, args.committed/"tables"/path.name) for path in tables]
    rows, complaints = [r for summary, _ in outcomes for r in summary], [c for _, found in outcomes for c in found]
    print(markdown_table(rows) if rows else "There is nothing to compare.")
    for c in complaints: print("OUT OF TOLERANCE ", c)
    n = sum(r["compared"] for r in rows)
    equal = sum(r["equal"] for r in rows)
    print(f"\n{n} figures of {len(tables)} tables compared, {equal} of them equal to the last digit; "
          f"{len(complaints)} complaint(s).")
    for why, names in left_out.items():
        if why: print(f"Not compared: {', '.join(names)} ({why}).")
    sys.exit(1 if complaints or not n else 0)


if __name__ == "__main__":
    main()
