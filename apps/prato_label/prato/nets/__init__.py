"""Networks that take a box prompt and drop tokens."""

from prato.nets.segformer import PratoSegFormer
from prato.nets.swin_unetr import PratoSwinUNETR
from prato.nets.transunet import PratoTransUNet
from prato.nets.unetr import PratoUNETR

PromptedNetwork = PratoUNETR | PratoSwinUNETR | PratoTransUNet | PratoSegFormer
