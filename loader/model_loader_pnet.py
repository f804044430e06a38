"""pnet: MTCNN's first stage, which proposes face boxes (method.md §2). No download needed."""

from facenet_pytorch.models.mtcnn import PNet

from loader.mtcnn import mtcnn_stage

MODEL = mtcnn_stage("P-Net", PNet, stages=3)
