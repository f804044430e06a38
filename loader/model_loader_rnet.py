"""rnet: MTCNN's second stage, which rejects and refines face boxes (method.md §2). No download needed."""

from facenet_pytorch.models.mtcnn import RNet

from loader.mtcnn import mtcnn_stage

MODEL = mtcnn_stage("R-Net", RNet, stages=3)
