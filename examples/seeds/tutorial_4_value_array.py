# 001_df27e34ee1479877.txt, Example 4
from multiprocessing import Process, Value, Array

def modify(shared_num, shared_arr):
    shared_num.value += 10
    for i in range(len(shared_arr)):
        shared_arr[i] += 1

if __name__ == "__main__":
    num = Value('i', 5)
    arr = Array('i', [1,2,3])

    p = Process(target=modify, args=(num, arr))
    p.start()
    p.join()

    print('Shared Value: ', num.value)
    print('Shared Array: ', arr[:])
