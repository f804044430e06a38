"""onet: MTCNN's last stage, which finds the face box and five landmarks (method.md §2). No download needed."""

from facenet_pytorch.models.mtcnn import ONet

from loader.crops import Crop
from loader.mtcnn import mtcnn_stage
from loader.predictions import Points


def places(output):
    _, points, _ = output  # box, points, probability; of the points, the five x come before the five y
    return points.unflatten(1, (2, 5)).transpose(1, 2)


POINTS = ("left_eye", "right_eye", "nose", "left_mouth_corner", "right_mouth_corner")
# MTCNN shows it squares of 48 px with a face in them; the dense layers behind its convolutions take no other size.
PREDICTS = Points(POINTS, places, side_px=48, crop=Crop("square"))
MODEL = mtcnn_stage("O-Net", ONet, stages=4, predicts=PREDICTS)
