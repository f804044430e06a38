"""onet: MTCNN's last stage, which finds the face box and five landmarks (method.md §2). No download needed."""

from facenet_pytorch.models.mtcnn import ONet

from loader.mtcnn import mtcnn_stage

MODEL = mtcnn_stage("O-Net", ONet, stages=4)
