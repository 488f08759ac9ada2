"""The tokenizer that the generators share: how well decoded jets agree with the original ones."""

from __future__ import annotations

from genscale.files import read_json
from genscale.pages import Picture, Section, Table
from genscale.study.results.study import Study

#: Half-width of the relative residual of decoded from original jets above which the tokenizer is called coarse.
COARSE_RESOLUTION = 0.1


def section(study: Study) -> Section | None:
    """Resolution of the tokenizer; None for a study without one."""
    file = study.folder / "quality" / "quality.json"
    if not file.exists():
        return None
    quality = read_json(file)
    rows = [(group, name, r) for group in ("particle", "jet") for name, r in quality[group].items()]
    cautions = [
        f"The tokenizer resolves the {group} {name.removesuffix('_relative')} only to "
        f"{100 * r['half_width_68']:.0f} %; no generator on its tokens can do better."
        for group, name, r in rows
        if "relative" in name and r["half_width_68"] > COARSE_RESOLUTION
    ]
    used = quality["codes_used"] / quality["codebook_size"]
    if used < 0.9:
        cautions.append(f"Only {100 * used:.0f} % of the codebook is used.")
    table = Table.of(
        "Resolution",
        f"{quality['codes_used']} of {quality['codebook_size']} codes are used, with a perplexity of "
        f"{quality['perplexity']:.0f}, {quality['bits_per_particle']:.2f} bits per particle and "
        f"{quality['bits_per_jet']:.0f} bits per jet. Residuals are decoded minus original: relative for pT and mass, "
        "in radians for angles.",
        rows,
        [
            ("of", lambda row: row[0]),
            ("feature", lambda row: row[1]),
            ("bias", lambda row: f"{row[2]['bias']:+.4f}"),
            ("68 % half-width", lambda row: f"{row[2]['half_width_68']:.4f}"),
            ("RMS", lambda row: f"{row[2]['rms']:.4f}"),
        ],
    )
    figure = Picture(
        "tokenizer",
        "The tokenizer",
        "Original and decoded jets, and the resolution of each feature after one pass through the codebook.",
        file.with_suffix(".png"),
    )
    return Section("Tokenizer", cautions=cautions, figures=[figure], tables=[table])
