# 000_7fcaf746c425c4eb.txt, In [7]
import multiprocessing
from multiprocessing import Pool
import time
# 000_7fcaf746c425c4eb.txt, In [9]
def function(num):
    """Function that uses CPU"""
    for i in range(5):
        print(f'Function {num}: {i}')
        time.sleep(1)

if __name__ == '__main__':
    with Pool(processes=2) as pool:
        pool.apply_async(function(1))
        pool.apply_async(function(2))
        pool.close()
        pool.join()
