"""Read an export with Datumaro and print what it saw as JSON. Run by test_datumaro.py, which says in which Python.

Usage: read_with_datumaro.py ROOT. Datumaro wants COCO as annotations/instances_<split>.json and images/<split>/: links
to what lies in coco/<split>/ are all it takes.
"""

import json
import sys
import tempfile
from pathlib import Path


def main(root: Path) -> None:
    from datumaro.components.annotation import AnnotationType
    from datumaro.components.dataset import Dataset

    def boxes(dataset, kind):
        seen = []
        names = dataset.categories()[AnnotationType.label]
        for item in dataset:
            for ann in item.annotations:
                if ann.type == kind:
                    entry = {"id": f"{item.subset}/{item.id}", "label": names[ann.label].name}
                    if kind == AnnotationType.mask:
                        entry |= {"area": int(ann.image.sum()), "box": [float(v) for v in ann.get_bbox()]}
                    else:
                        entry["box"] = [float(v) for v in ann.get_bbox()]
                        box_3d = ("location", "dimensions", "rotation_y", "alpha", "occluded", "score")
                        entry |= {key: ann.attributes[key] for key in box_3d if key in ann.attributes}
                    seen.append(entry)
        return {"items": len(dataset), "annotations": seen}

    result = {"kitti": boxes(Dataset.import_from(str(root / "kitti"), "kitti"), AnnotationType.bbox)}
    for split in sorted(path.name for path in (root / "kitti").iterdir()):
        dataset = Dataset.import_from(str(root / "kitti" / split), "kitti3d")
        result[f"kitti3d/{split}"] = boxes(dataset, AnnotationType.bbox)
    with tempfile.TemporaryDirectory() as folder:
        adapter = Path(folder)
        for split in sorted((root / "coco").iterdir()):
            (adapter / "annotations").mkdir(exist_ok=True)
            (adapter / "images").mkdir(exist_ok=True)
            (adapter / "annotations" / f"instances_{split.name}.json").symlink_to(split / "annotations.json")
            (adapter / "images" / split.name).symlink_to(split / "images")
        dataset = Dataset.import_from(str(adapter), "coco_instances")
        result["coco"] = boxes(dataset, AnnotationType.bbox)
        result["coco_masks"] = boxes(dataset, AnnotationType.mask)
    json.dump(result, sys.stdout, default=float)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
