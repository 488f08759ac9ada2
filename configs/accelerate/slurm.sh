#!/bin/bash
# Several nodes under SLURM: sbatch configs/accelerate/slurm.sh train generator --config ... --out ... training.precision=bf16
# training.batch_jets is shared by all GPUs. For many small trainings use genscale study run --backend slurm instead.
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1   # one launcher per node; it starts a process for each GPU
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120     # two minutes before the end: training saves and can be resumed by the same command
set -euo pipefail
gpus=$((SLURM_NNODES * ${SLURM_GPUS_ON_NODE:-4}))
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# SLURM_NODEID differs from node to node, hence the inner shell; "$@" keeps arguments with spaces whole.
srun bash -c 'exec accelerate launch --multi_gpu --num_machines "$SLURM_NNODES" --num_processes '"$gpus"' \
    --machine_rank "$SLURM_NODEID" --main_process_ip '"$head"' --main_process_port 29500 \
    --mixed_precision no --dynamo_backend no -m genscale.cli "$@"' launch "$@"
