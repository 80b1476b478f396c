"""What the report cites, by key; `numbered` turns `[@key]` marks into numbers, in the order of first mention."""

from __future__ import annotations

import re
from collections.abc import Sequence

from elr_mri.errors import BadInput

#: A mark in a text: `[@elr]`, or several as `[@elr,wide]`.
MARK = re.compile(r"\[@([a-z0-9,]+)\]")

REFERENCES = {
    "adni": "Petersen RC, Aisen PS, Beckett LA, et al. Alzheimer’s Disease Neuroimaging Initiative (ADNI): clinical characterization. Neurology 74:201–209, 2010.",
    "nacc": "Beekly DL, Ramos EM, Lee WW, et al. The National Alzheimer’s Coordinating Center (NACC) database: the Uniform Data Set. Alzheimer Dis Assoc Disord 21:249–258, 2007.",
    "colin": "Holmes CJ, Hoge R, Collins L, et al. Enhancement of MR images using registration for signal averaging. J Comput Assist Tomogr 22:324–333, 1998.",
    "n4": "Tustison NJ, Avants BB, Cook PA, et al. N4ITK: improved N3 bias correction. IEEE Trans Med Imaging 29:1310–1320, 2010.",
    "ants": "Tustison NJ, Cook PA, Holbrook AJ, et al. The ANTsX ecosystem for quantitative biological and medical imaging. Sci Rep 11:9068, 2021.",
    "syn": "Avants BB, Epstein CL, Grossman M, Gee JC. Symmetric diffeomorphic image registration with cross-correlation. Med Image Anal 12:26–41, 2008.",
    "demons": "Vercauteren T, Pennec X, Perchant A, Ayache N. Diffeomorphic demons: efficient non-parametric image registration. NeuroImage 45:S61–S72, 2009.",
    "lcc": "Lorenzi M, Ayache N, Frisoni GB, Pennec X. LCC-Demons: a robust and accurate symmetric diffeomorphic registration algorithm. NeuroImage 81:470–483, 2013.",
    "mni": "Fonov V, Evans AC, Botteron K, et al. Unbiased average age-appropriate atlases for pediatric studies. NeuroImage 54:313–327, 2011.",
    "templateflow": "Ciric R, Thompson WH, Lorenz R, et al. TemplateFlow: FAIR-sharing of multi-scale, multi-species brain models. Nat Methods 19:1568–1571, 2022.",
    "icv": "Buckner RL, Head D, Parker J, et al. A unified approach for morphometric and functional data analysis in young, old, and demented adults using automated atlas-based head size normalization. NeuroImage 23:724–738, 2004.",
    "fusion": "Wang H, Suh JW, Das SR, et al. Multi-atlas segmentation with joint label fusion. IEEE Trans Pattern Anal Mach Intell 35:611–623, 2013.",
    "freesurfer": "Fischl B, Salat DH, Busa E, et al. Whole brain segmentation: automated labeling of neuroanatomical structures in the human brain. Neuron 33:341–355, 2002.",
    "synthseg": "Billot B, Greve DN, Puonti O, et al. SynthSeg: segmentation of brain MRI scans of any contrast and resolution without retraining. Med Image Anal 86:102789, 2023.",
    "wide": "Liu S, Yadav C, Fernandez-Granda C, Razavian N. On the design of convolutional neural networks for automatic detection of Alzheimer’s disease. Machine Learning for Health (ML4H) at NeurIPS 2019, PMLR 116:171–183, 2020.",
    "resnet": "He K, Zhang X, Ren S, Sun J. Deep residual learning for image recognition. CVPR, 770–778, 2016.",
    "alexnet": "Krizhevsky A, Sutskever I, Hinton GE. ImageNet classification with deep convolutional neural networks. NeurIPS 25, 2012.",
    "position": "Vaswani A, Shazeer N, Parmar N, et al. Attention is all you need. NeurIPS 30, 2017.",
    "elr": "Liu S, Niles-Weed J, Razavian N, Fernandez-Granda C. Early-learning regularization prevents memorization of noisy labels. NeurIPS 33, 2020.",
    "sop": "Liu S, Zhu Z, Qu Q, You C. Robust training under label noise by over-parameterization. ICML, PMLR 162:14153–14172, 2022.",
    "gce": "Zhang Z, Sabuncu MR. Generalized cross entropy loss for training deep neural networks with noisy labels. NeurIPS 31, 2018.",
    "adamw": "Loshchilov I, Hutter F. Decoupled weight decay regularization. ICLR, 2019.",
    "onecycle": "Smith LN, Topin N. Super-convergence: very fast training of neural networks using large learning rates. Proc SPIE 11006:1100612, 2019.",
    "mixup": "Zhang H, Cisse M, Dauphin YN, Lopez-Paz D. mixup: beyond empirical risk minimization. ICLR, 2018.",
    "torch": "Paszke A, Gross S, Massa F, et al. PyTorch: an imperative style, high-performance deep learning library. NeurIPS 32, 2019.",
    "monai": "Cardoso MJ, Li W, Brown R, et al. MONAI: an open-source framework for deep learning in healthcare. arXiv:2211.02701, 2022.",
    "sklearn": "Pedregosa F, Varoquaux G, Gramfort A, et al. Scikit-learn: machine learning in Python. J Mach Learn Res 12:2825–2830, 2011.",
    "bootstrap": "Field CA, Welsh AH. Bootstrapping clustered data. J R Stat Soc B 69:369–390, 2007.",
    "expanded": "Hesterberg TC. What teachers should know about the bootstrap: resampling in the undergraduate statistics curriculum. Am Stat 69:371–386, 2015.",
    "jackknife": "Hinkley DV. Jackknife confidence limits using Student t approximations. Biometrika 64:21–28, 1977.",
    "holm": "Holm S. A simple sequentially rejective multiple test procedure. Scand J Stat 6:65–70, 1979.",
    "temperature": "Guo C, Pleiss G, Sun Y, Weinberger KQ. On calibration of modern neural networks. ICML, PMLR 70:1321–1330, 2017.",
    "stacking": "Wolpert DH. Stacked generalization. Neural Netw 5:241–259, 1992.",
    "em": "Saerens M, Latinne P, Decaestecker C. Adjusting the outputs of a classifier to new a priori probabilities: a simple procedure. Neural Comput 14:21–41, 2002.",
    "twosample": "Lopez-Paz D, Oquab M. Revisiting classifier two-sample tests. ICLR, 2017.",
    "smd": "Austin PC. Balance diagnostics for comparing the distribution of baseline covariates between treatment groups in propensity-score matched samples. Stat Med 28:3083–3107, 2009.",
    "cox": "Cox DR. Regression models and life-tables. J R Stat Soc B 34:187–220, 1972.",
    "efron": "Efron B. The efficiency of Cox’s likelihood function for censored data. J Am Stat Assoc 72:557–565, 1977.",
    "concordance": "Harrell FE, Califf RM, Pryor DB, Lee KL, Rosati RA. Evaluating the yield of medical tests. JAMA 247:2543–2546, 1982.",
    "statsmodels": "Seabold S, Perktold J. statsmodels: econometric and statistical modeling with Python. Proc 9th Python in Science Conf, 92–96, 2010.",
    "smoothgrad": "Smilkov D, Thorat N, Kim B, Viégas F, Wattenberg M. SmoothGrad: removing noise by adding noise. arXiv:1706.03825, 2017.",
    "integrated": "Sundararajan M, Taly A, Yan Q. Axiomatic attribution for deep networks. ICML, PMLR 70:3319–3328, 2017.",
    "saliency": "Simonyan K, Vedaldi A, Zisserman A. Deep inside convolutional networks: visualising image classification models and saliency maps. ICLR Workshop, 2014.",
    "sanity": "Adebayo J, Gilmer J, Muelly M, et al. Sanity checks for saliency maps. NeurIPS 31, 2018.",
    "snakemake": "Mölder F, Jablonski KP, Letcher B, et al. Sustainable data analysis with Snakemake. F1000Research 10:33, 2021.",
}  # fmt: skip


def numbered(paragraphs: Sequence[str]) -> tuple[list[str], list[str]]:
    """The paragraphs with `[1,2]` in place of their marks, and the works that they cite, in that order."""
    order: dict[str, int] = {}

    def number(mark: re.Match[str]) -> str:
        keys = mark.group(1).split(",")
        if strange := [key for key in keys if key not in REFERENCES]:
            raise BadInput(
                expected="a work of references.py",
                got=strange[0],
                where="a methods paragraph",
                fix="Add the work there.",
            )
        return "[" + ",".join(str(order.setdefault(key, len(order) + 1)) for key in keys) + "]"

    texts = [MARK.sub(number, text) for text in paragraphs]
    return texts, [REFERENCES[key] for key in order]
