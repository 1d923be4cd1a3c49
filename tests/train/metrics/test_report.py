"""Test the figures in a report against values computed by hand."""

from egox_train.metrics.report import build_report, markdown_report, protocol_of

TAKES = range(6)  # 0 to 2 in test, 3 to 5 in validation
SEEDS = {"generated": 0.0, "generated, seed 2": 0.3, "generated, seed 3": 0.6}
LEAD_BY_TAKE = (-0.01, 0.02, 0.03, 0.04, 0.05, 0.06)  # over "other", by take, but in PSNR


def make_row(take: int, half: int) -> dict:
    psnr = 20 + take + 0.5 * half
    lead_metrics = dict.fromkeys(("ssim", "patch_zncc"), 0.5 + LEAD_BY_TAKE[take])
    return {
        "clip": f"{take}{'ab'[half]}",
        "take": str(take),
        "truth": "",
        "coverage_from": "renderer",
        "metrics": {
            **{name: {"psnr": psnr + more, **lead_metrics} for name, more in SEEDS.items()},
            "other": {"psnr": psnr - take - 1, "ssim": 0.5, "patch_zncc": 0.5},
        },
    }


def test_report_equals_figures_computed_by_hand():
    rows = [make_row(take, half) for take in TAKES for half in (0, 1)]
    clips = [r["clip"] for r in rows]
    report = build_report(
        rows,
        {},
        options={},
        weights={},
        protocol=protocol_of((), {}),
        sets_of=lambda some: {
            "fvd": {name: len(some) + 100 * more for name, more in SEEDS.items()} | {"other": 7.0}
        },
        groups={"split": {"test": clips[:6], "validation": clips[6:]}},
    )
    # (20 + ... + 25) / 6 of the takes, .25 of the halves, .3 of the seeds, whose means are .3 apart
    generated_psnr = report["means"]["generated"]["psnr"]
    assert (
        generated_psnr["mean"],
        generated_psnr["spread"],
        generated_psnr["clips"],
        generated_psnr["takes"],
    ) == (23.05, 0.3, 12, 6)
    assert 20.55 < generated_psnr["low"] < 23.05 < generated_psnr["high"] < 25.55
    assert "spread" not in report["means"]["other"]["psnr"]
    by_split = report["groups"]["split"]
    for split, expected_mean in (("test", 21.55), ("validation", 24.55)):
        split_psnr = by_split[split]["means"]["generated"]["psnr"]
        assert split_psnr == {"mean": expected_mean, "clips": 6, "takes": 3, "spread": 0.3}
    # Wilcoxon of six takes, two-sided: no rank against it, 1 of 64; rank 1, 2 of 64. Holm's factors
    # are 3, 2 and 1, and no p is below the one before it.
    paired_metrics = report["paired"]["generated - other"]
    assert paired_metrics["psnr"]["mean"] == 3.8  # 1 + ... + 6 by take, and .3
    assert [paired_metrics[k]["p"] for k in ("psnr", "ssim", "patch_zncc")] == [
        2 / 64,
        4 / 64,
        4 / 64,
    ]
    assert [paired_metrics[k]["p_holm"] for k in ("psnr", "ssim", "patch_zncc")] == [
        0.09375,
        0.125,
        0.125,
    ]
    report_text = markdown_report(report)
    low, high = (f"{generated_psnr[k]:.2f}" for k in ("low", "high"))
    for cells in (
        f"| generated | 12, 6 | 23.05 [{low}, {high}] ± 0.30 |",
        "| 42.0 ± 30.0 |",  # 12, 42 and 72
        "## By split",
        "| test, generated | 6, 3 | 21.55 ± 0.30 |",
        "| validation, other | 6, 3 | 19.25 |",  # 24.25 less 4, 5 and 6
        "± is the standard deviation over the seeds: generated 3.",
        "p 0.094 |",
    ):
        assert cells in report_text, cells
