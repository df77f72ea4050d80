# 004_d67be4d46b6a3a6a.txt, Process Pools
from multiprocessing import Pool

def square(x):
    return x * x

if __name__ == "__main__":
    with Pool(4) as pool:   # 4 worker processes
        results = pool.map(square, [1, 2, 3, 4, 5])
        print(results)
