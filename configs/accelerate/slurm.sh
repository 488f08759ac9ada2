#!/bin/bash
# Several nodes under SLURM: sbatch configs/accelerate/slurm.sh train generator --config ... --out ...
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120     # two minutes before the end: training saves and can be resumed by the same command
set -euo pipefail
gpus=$((SLURM_NNODES * 4))
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun bash -c "accelerate launch --multi_gpu --num_machines $SLURM_NNODES --num_processes $gpus \
    --machine_rank \$SLURM_NODEID --main_process_ip $head --main_process_port 29500 -m genscale.cli $*"
