# 004_d67be4d46b6a3a6a.txt, Shared Memory (Value & Array)
from multiprocessing import Value, Array, Process

def worker(val, arr):
    val.value += 1
    arr[0] = arr[0] * 2

if __name__ == "__main__":
    v = Value('i', 0)      # shared integer
    a = Array('i', [1, 2, 3])
    p = Process(target=worker, args=(v, a))
    p.start(); p.join()
    print(v.value, list(a))
