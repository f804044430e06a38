"""Face boxes for the tasks that crop: found once per dictionary, kept in a file (method.md §2).

The same box cuts the photograph, its masks, and the place of the highlight in the report.
"""

from pathlib import Path

from dictionary.images import load_rgb
from dictionary.rows import Problem
from util.errors import DissectionError
from util.files import JsonMemory
from util.parallel import mapped

# Raise when boxes would come out differently for the same photograph.
_VERSION = 1
# MTCNN's own default: its first network looks for faces of this size and more.
LEAST_FACE_PX = 20
_SAVE_EVERY = 500  # images between two savings of the file


def face_boxes(root, digest_of, memory_folder, device, workers, search=True):
    """The box of the largest face in each image, by MTCNN with its default settings.

    root: of the dictionary. digest_of: {image path relative to root: digest of its content}.
    memory_folder: where the boxes are kept, by the content of the photographs, so that only new ones are searched.
    workers: threads that read ahead. search: False raises DissectionError rather than look for a face.
    Returns {image path: (left, top, right, bottom)}, whole pixels within the image, right and bottom exclusive; None
    for an image in which no face was found.
    """
    root = Path(root)
    path = Path(memory_folder) / f"{root.resolve().name}_face_boxes.json"
    memory = JsonMemory(path, _VERSION, _box, "the faces are searched again")
    known = memory.read()
    unseen = [image for image, digest in digest_of.items() if digest not in known]
    if unseen and not search:
        raise DissectionError(f"the faces of {len(unseen)} images have not been looked for yet: run with GENERATE=True")
    if unseen:
        find = face_finder(device)
        try:
            read = mapped(lambda image: load_rgb(root / image), unseen, workers, "face boxes")
            for count, (image, photograph) in enumerate(read, 1):
                known[digest_of[image]] = _whole_pixels(find(photograph), photograph)
                if count % _SAVE_EVERY == 0:
                    memory.write(known)
        finally:
            memory.write(known)
    return {image: known[digest] and tuple(known[digest]) for image, digest in digest_of.items()}


def crop_to_faces(dictionary, memory_folder, device, workers, skip_bad):
    """The same Dictionary seen through the face boxes of its images, one without a face left out as unusable (settle).

    memory_folder, device, workers: see face_boxes. Raises DissectionError.
    """
    boxes = face_boxes(dictionary.root, dictionary.image_digests, memory_folder, device, workers)
    faceless = [row for row in dictionary.usable_rows if boxes[row.image] is None]
    problems = [Problem(row.where, missing_face(row.image), row.index) for row in faceless]
    return dictionary.without(problems, skip_bad, boxes)


def face_finder(device, **options):
    """MTCNN as a function: image uint8 (H, W, 3), RGB -> the box of the largest face as 4 floats, None without one.

    options: of facenet_pytorch.MTCNN, whose defaults stand otherwise.
    """
    # Here and not above: most runs look for no face, and it takes seconds to import.
    from facenet_pytorch import MTCNN

    detector = MTCNN(min_face_size=LEAST_FACE_PX, select_largest=True, device=device, **options)

    def find(image):
        if min(image.shape[:2]) < LEAST_FACE_PX:  # MTCNN fails on what is smaller than the smallest face
            return None
        boxes, _ = detector.detect(image)
        return None if boxes is None else boxes[0]  # the largest comes first

    return find


def _whole_pixels(box, photograph):
    """A box cut to whole pixels within the photograph, as facenet-pytorch's own crop is; None for one without area."""
    if box is None:
        return None
    height, width = photograph.shape[:2]
    left, top = (int(max(edge, 0)) for edge in box[:2])
    right, bottom = (int(min(edge, length)) for edge, length in zip(box[2:], (width, height), strict=True))
    return [left, top, right, bottom] if right > left and bottom > top else None


def missing_face(image):
    """What is wrong with an image without a face, in words: a task that crops cannot use it."""
    return f"no face was found in {image}, and this task crops faces (CROP=False takes whole images)"


def _box(value):
    """A box of the memory, or None for an image without a face. Raises ValueError for what is neither."""
    if value is None:
        return None
    left, top, right, bottom = value
    if [type(edge) for edge in value] != [int] * 4 or not (0 <= left < right and 0 <= top < bottom):
        raise ValueError(f"no box: {value}")
    return value
