# 000_7fcaf746c425c4eb.txt, In [7]
import multiprocessing
from multiprocessing import Pool
import time

def func(x):
    time.sleep(1)
    print(x*x)
    return x*x

def main():
    for i in range(10):
        proces = multiprocessing.Process(target=func(i))
        proces.start()
        proces.join()

if __name__ == '__main__':
    main()
