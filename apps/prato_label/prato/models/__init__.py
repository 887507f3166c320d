"""Networks that take a box prompt and drop tokens."""

from prato.models.segformer import PratoSegFormer
from prato.models.swin_unetr import PratoSwinUNETR
from prato.models.transunet import PratoTransUNet
from prato.models.unetr import PratoUNETR

PromptedNetwork = PratoUNETR | PratoSwinUNETR | PratoTransUNet | PratoSegFormer
