from .caltech256 import Caltech256
from .digits import Digits
from .tinyimagenet import TinyImageNet

__all__ = ['Caltech256', 'Digits', 'TinyImageNet']
